"""One guarded registry a module."""

from collections.abc import Iterator

import pytest

from tests.registry.auth.doors import Door, serving_behind


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with serving_behind(tmp_path_factory.mktemp("guarded")) as running:
        yield running
