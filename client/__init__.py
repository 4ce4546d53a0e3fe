"""The client: talks to registries, keeps a local runtime store."""

import sys
from typing import Any

# httpx brings a command line of its own, whose imports take longer than all the rest of it. With None in its
# place they fail at once, which httpx expects where it was installed without that.
_modules: dict[str, Any] = sys.modules
_modules.setdefault("httpx._main", None)
