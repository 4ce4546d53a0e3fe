"""A View of layers that an ordinary user unpacked, as that user and without a namespace."""

from tests.client.unpack.overlays import needs_root
from tests.client.view.users import run_as_user, users_layers, users_place

pytestmark = needs_root

CODE = """
import json, sys
from pathlib import Path
from client.unpack.options import Ownership
from client.view.errors import PathClosed
from client.view.view import View

stack = sorted(Path(sys.argv[1]).glob("layer-*"), reverse=True)
found = {}
with View(stack, Ownership.RECORDED) as view:
    for path in sys.argv[2:]:
        try:
            entry = view.find(path.encode())
            if entry.is_directory:
                found[path] = [inner.path.decode() for inner in view.list(entry)]
            else:
                with view.open(entry) as file:
                    found[path] = [entry.uid, entry.gid, file.read().decode()]
        except PathClosed as error:
            found[path] = str(error)
print(json.dumps(found))
"""


def test_UNP_14_reads_what_modes_leave_open_and_says_what_they_close() -> None:
    with users_place() as place:
        users_layers(place)
        found = run_as_user(CODE, place, "d", "s/g", "closed", "shut", "shut/inner")

    closed = "its mode closes it to you; try as root, or inside `unshare -Ur`"
    assert found == {
        "d": ["d/g"],
        "s/g": [0, 8, "2"],
        "closed": f"'/closed': {closed}",
        "shut": f"'/shut': {closed}",
        "shut/inner": f"'/shut': {closed}",
    }


DIFF = """
import json, sys
from pathlib import Path
from client.unpack.options import Ownership
from client.view.differences import diff
from client.view.view import View
from tests.client.view.stacks import stacked
from tests.client.view.test_differences import lines
from tests.client.unpack.archives import archive, directory, file

base = archive(
    file("shadow", b"1", mode=0), file("gshadow", b"1", mode=0), file("f", b"1", uid=5),
    directory("shut", mode=0), directory("open"), file("open/f"),
)
upper = archive(
    file("shadow", b"1", mode=0), file("f", b"1", uid=6), directory("shut", mode=0), file("shut/new"),
    directory("added", mode=0), file("added/inner"),
)
stack = stacked(Path(sys.argv[1]), base, upper)
with View(stack[1:], Ownership.RECORDED) as old, View(stack, Ownership.RECORDED) as new:
    print(json.dumps(lines(diff(old, new))))
"""


def test_tells_changes_as_far_as_modes_let_it() -> None:
    """What it cannot read of another layer counts as changed; no unreadable file stops it."""
    with users_place() as place:
        assert run_as_user(DIFF, place) == ["A added", "C f owner", "C shadow content", "C shut"]
