"""What a layer in overlay form takes from the layers below it."""

import io
import os
from pathlib import Path

import pytest

from client.unpack.errors import LinkTargetMissing, Unsupported
from client.unpack.layer import unpack_layer
from client.unpack.lowers import inherit_directories
from client.unpack.options import Options
from tests.client.unpack.archives import archive, directory, entry, file, link, symlink
from tests.client.unpack.overlays import mounted, needs_root
from tests.client.unpack.sandbox import Sandbox
from tests.client.unpack.trees import listing

pytestmark = needs_root

CAPABILITY = "0100000200200000000000000000000000000000"


def stacked(directory_: Path, *layers: bytes) -> list[Path]:
    """Unpack layers, lowest first; return their directories, uppermost first."""
    stack: list[Path] = []
    for number, layer in enumerate(layers):
        target = directory_ / str(number)
        target.mkdir()
        stats = unpack_layer(io.BytesIO(layer), target, diff_id=None, options=Options(lowers=tuple(stack)))
        inherit_directories(target, stack, stats.implied)
        stack.insert(0, target)
    return stack


LOWER = archive(
    directory("./", mode=0o711, mtime=3),
    directory("d", mode=0o750, uid=7, mtime=5),
    file("d/f", b"lower", mode=0o4755, uid=7, gid=8, mtime=-5, pax={"SCHILY.xattr.user.a": "b"}),
    symlink("d/s", "../nowhere", uid=9, mtime=6),
    entry("d/p", kind="fifo"),
    directory("tmp", mode=0o1777, mtime=4, pax={"SCHILY.xattr.user.t": "1"}),
    file("g"),
)


def test_links_to_a_file_of_a_lower_layer(tmp_path: Path) -> None:
    """As overlayfs does it: the target is copied up with all its attributes."""
    middle = archive(file("other"))
    upper, *_, lowest = stacked(tmp_path, LOWER, middle, archive(link("new/h", "/d/f"), link("again", "d/f")))

    found, original = listing(upper), listing(lowest)
    assert {**found[b"d/f"], "linked to": None} == {**original[b"d/f"], "linked to": None}
    assert found[b"new/h"] == found[b"again"] == found[b"d/f"]
    assert found[b"d"] == original[b"d"]


def test_links_to_a_link_of_a_lower_layer(tmp_path: Path) -> None:
    upper, lowest = stacked(tmp_path, LOWER, archive(link("h", "d/s")))

    found, original = listing(upper), listing(lowest)
    assert {**found[b"h"], "linked to": None} == {**original[b"d/s"], "linked to": None}


@pytest.mark.parametrize(
    "layers",
    [
        pytest.param([archive(file("d/.wh.f")), archive(link("h", "d/f"))], id="deleted-below"),
        pytest.param([archive(file(".wh.d")), archive(link("h", "d/f"))], id="its-directory-deleted-below"),
        pytest.param([archive(file("d/.wh..wh..opq")), archive(link("h", "d/f"))], id="hidden-below"),
        pytest.param([archive(file("d")), archive(link("h", "d/f"))], id="covered-below"),
        pytest.param([archive(file("d/.wh.f"), link("h", "d/f"))], id="deleted-here"),
        pytest.param([archive(file(".wh.d"), link("h", "d/f"))], id="its-directory-deleted-here"),
        pytest.param([archive(link("h", "d/nope"))], id="nowhere"),
        pytest.param([archive(link("h", "nope/f"))], id="no-directory"),
    ],
)
def test_refuses_a_link_to_what_is_not_there(tmp_path: Path, layers: list[bytes]) -> None:
    with pytest.raises(LinkTargetMissing):
        stacked(tmp_path, LOWER, *layers)


@pytest.mark.parametrize("name", ["d", "tmp", "d/p"])
def test_refuses_a_link_to_what_is_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(Unsupported):
        stacked(tmp_path, LOWER, archive(link("h", name)))


def test_does_not_look_below_without_being_asked(sandbox: Sandbox) -> None:
    with pytest.raises(LinkTargetMissing):
        sandbox.unpack(archive(link("h", "d/f")))


def test_implied_directories_inherit(tmp_path: Path) -> None:
    """A layer that brings tmp/x and not tmp must not close /tmp."""
    stack = stacked(
        tmp_path, LOWER, archive(file("g")), archive(file("tmp/x"), file("d/.wh.f"), file("new/y"))
    )

    with mounted(list(reversed(stack)), tmp_path / "mount") as merged:
        found, original = listing(merged), listing(stack[-1])
    for path in (b".", b"tmp", b"d"):
        assert found[path] == original[path]
    assert found[b"new"]["mode"] == "0o40755"


def test_implied_directories_do_not_inherit_from_what_is_hidden(tmp_path: Path) -> None:
    stack = stacked(tmp_path, LOWER, archive(file(".wh.tmp")), archive(file("tmp/x"), file("g/y")))

    assert oct((stack[0] / "tmp").stat().st_mode) == "0o40755"
    assert os.listxattr(stack[0] / "tmp") == []
    assert oct((stack[0] / "g").stat().st_mode) == "0o40755"


def test_copies_capabilities(tmp_path: Path) -> None:
    capability = {"SCHILY.xattr.security.capability": bytes.fromhex(CAPABILITY).decode()}
    stack = stacked(tmp_path, archive(file("f", b"x", uid=5, pax=capability)), archive(link("h", "f")))

    assert os.getxattr(stack[0] / "h", "security.capability").hex() == CAPABILITY


def test_leaves_no_descriptor_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    stacked(tmp_path, LOWER, archive(link("h", "d/f"), file("tmp/x"), symlink("l", "d"), file("l/y")))
    with pytest.raises(LinkTargetMissing):
        stacked(tmp_path / "0", archive(link("h", "d/f")))

    assert len(os.listdir("/proc/self/fd")) == before
