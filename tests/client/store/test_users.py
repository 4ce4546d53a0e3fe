"""The store of an ordinary user, whose own layers may be closed to him."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.store.layouts import Layout, layer
from tests.client.unpack.archives import directory, file, symlink
from tests.client.view.users import USER, run_as_user, users_place

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="LEFT OUT: only root can become another user")

CLOSED = layer(
    directory("./", mode=0o555, uid=0),
    directory("shut/", mode=0),
    file("shut/inner", b"1", mode=0),
    directory("shut/deep/", mode=0),
    directory("shut/deep/er/", mode=0o111),
    file("shut/deep/er/x", b"2", uid=7),
    directory("read/", mode=0o555),
    file("read/only", b"3", mode=0o444),
    directory("read/below/", mode=0o500),
    symlink("read/link", "only"),
)
UPPER = layer(file("shut/upper", b"4"), file("read/.wh.only"))

_PROGRAM = """
import json, os, sys
from pathlib import Path
from client.places.oci_layout import OciLayout
from client.repair import repair
from client.store import collection, flat
from client.store.check import Check
from client.store.store import Store
from client.store.unpacking import default_options
from tests.client.store.processes import NAME, leftovers, take
from tests.client.store.test_users import flip

place = Path(sys.argv[1])
with Store(place / "store") as store:
    take(store, place / "layout")
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A layout that the user can read."""
    with users_place() as place:
        layout = Layout(place / "layout")
        layout.tag(layout.image(CLOSED, UPPER))
        yield place


def flip(path: Path) -> None:
    """Change a file without a trace in its directory or its time."""
    status = path.stat()
    path.chmod(0o600)
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    path.chmod(status.st_mode & 0o7777)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def run(place: Path, *lines: str) -> object:
    """Run this in the user's store, where the image is; `store` is open."""
    return run_as_user(_PROGRAM + "".join(f"    {line}\n" for line in lines), place)


def test_pulls_what_is_closed_even_to_him(place: Path) -> None:
    assert run(place, "print(json.dumps([len(store.layers.all()), leftovers(store)]))") == [2, []]
    assert {path.stat().st_uid for path in (place / "store").iterdir()} == {USER}


def test_a_prune_removes_closed_directories(place: Path) -> None:
    left = run(
        place,
        "store.forget(store.find(NAME))",
        "collection.collect(store, partial_seconds=0)",
        "print(json.dumps([store.layers.all(), leftovers(store)]))",
    )

    assert left == [[], []]
    assert [path.name for path in (place / "store/blobs").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("mode", [0, 0o111, 0o444, 0o555])
def test_what_is_closed_itself_goes(place: Path, mode: int) -> None:
    left = run(
        place,
        "top = store.directory.root / 'trash/top'",
        "(top / 'inner').mkdir(parents=True)",
        "(top / 'file').touch()",
        f"(top / 'inner').chmod({mode})",
        f"top.chmod({mode})",
        "store.directory.empty_trash()",
        "print(json.dumps(leftovers(store)))",
    )

    assert left == []


def test_a_check_looks_into_closed_directories(place: Path) -> None:
    assert run(place, "print(json.dumps([str(each) for each in Check(store).problems()]))") == []
    assert list((place / "store/tmp").iterdir()) == []


def test_a_changed_layer_is_unpacked_again(place: Path) -> None:
    found = run(
        place,
        "flip(store.stack(store.image(NAME))[-1] / 'read/only')",
        "found = Check(store).problems()",
        "failures = repair(store, found, lambda name: OciLayout(place / 'layout'))",
        "print(json.dumps([[str(each) for each in found], list(map(str, failures)),"
        " [str(each) for each in Check(store).problems()], leftovers(store)]))",
    )

    assert isinstance(found, list)
    (problem,), *rest = found
    assert problem.endswith("was changed: other content: 'read/only'")
    assert rest == [[], [], []]


def test_a_check_sees_what_is_closed_in_its_attributes(place: Path) -> None:
    found = run(
        place,
        "os.chmod(store.stack(store.image(NAME))[-1] / 'shut', 0o100)",
        "print(json.dumps([str(each) for each in Check(store).problems()]))",
    )

    assert isinstance(found, list)
    assert found[0].endswith("was changed: another mode: 'shut'")


def test_a_directory_that_is_passed_through_stays_closed(place: Path) -> None:
    run(place, "pass")

    modes = [path.stat().st_mode & 0o777 for path in (place / "store/layers").glob("*/diff/shut")]
    assert modes == [0, 0]


def test_unpacks_a_tree_whose_root_is_closed_to_writing(place: Path) -> None:
    found = run(
        place,
        "flat.unpack(store, store.image(NAME), place / 'tree', default_options())",
        "print(json.dumps([sorted(os.listdir(place / 'tree')), oct(os.stat(place / 'tree').st_mode)]))",
    )

    assert found == [["read", "shut"], "0o40555"]
    assert sorted(path.name for path in place.iterdir()) == ["layout", "store", "tree"]


def test_what_a_dead_process_left_goes(place: Path) -> None:
    left = run(
        place,
        "made = Path(store.directory.root / 'tmp/dead')",
        "os.rename(store.directory.layer(store.image(NAME).chain[0]), made)",
        "collection.collect(store)",
        "print(json.dumps(leftovers(store)))",
    )

    assert left == []
