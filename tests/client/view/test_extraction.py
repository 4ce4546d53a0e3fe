"""`cargohold cp REF:PATH DIR`."""

import os
import subprocess
from pathlib import Path

import pytest

from client.errors import DiskFailed
from client.view.errors import PathUnknown, PathUnusable
from client.view.extraction import extract
from client.view.view import View
from tests.client.unpack import nasty
from tests.client.unpack.archives import archive, directory, entry, file, link, symlink
from tests.client.unpack.overlays import needs_root
from tests.client.unpack.trees import listing
from tests.client.view.stacks import stacked
from tests.client.view.users import run_as_user, users_layers, users_place

pytestmark = needs_root


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


LOWER = archive(
    directory("d", mode=0o500, uid=3, mtime=7),
    file("d/f", b"1", mode=0o6755, uid=5, mtime=-5, pax={"SCHILY.xattr.user.a": "b"}),
    file("d/gone"),
    symlink("d/s", "/etc/shadow"),
    entry("d/null", kind="character", device=(1, 3), mode=0o666),
)
UPPER = archive(file("d/.wh.gone"), link("d/again", "d/f"), file("top", b"t"))


def test_copies_a_merged_directory_as_the_callers(tmp_path: Path, target: Path) -> None:
    with View(stacked(tmp_path, LOWER, UPPER)) as view:
        notices = extract(view, b"d/", target)

    found = listing(target)
    assert sorted(found) == [b".", b"d", b"d/again", b"d/f", b"d/s"]
    assert found[b"d"]["mode"] == "0o40500"
    for name in (b"d/f", b"d/again"):
        assert (found[name]["mode"], found[name]["owner"]) == ("0o100755", (0, 0))
        assert (found[name]["mtime"], found[name]["xattrs"]) == (-5 * 10**9, {})
    assert found[b"d/f"]["linked to"] == found[b"d/again"]["linked to"]
    assert found[b"d/s"]["target"] == b"/etc/shadow"
    assert notices == {"device left out": 1}


def test_copies_all_there_is_with_archive(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    nasty.make(source)
    command = ["tar", "-C", str(source), "--numeric-owner", "--xattrs", "--xattrs-include=*", "-cf", "-", "."]
    data = subprocess.run([*command, "--format=posix", "--sparse"], check=True, stdout=subprocess.PIPE).stdout

    with View(stacked(tmp_path, data)) as view:
        assert extract(view, b"/", target, archive=True) == {}

    copied, original = listing(target), listing(source)
    del copied[b"."], original[b"."]
    assert copied == original
    assert (target / "nodes/sparse").stat().st_blocks * 512 < 9 << 20


@pytest.mark.parametrize("path", [b"top", b"/./top", b"d/../top"])
def test_copies_a_file(tmp_path: Path, target: Path, path: bytes) -> None:
    with View(stacked(tmp_path, LOWER, UPPER)) as view:
        extract(view, path, target)

    assert (target / "top").read_bytes() == b"t"
    assert os.listdir(target) == ["top"]


def test_copies_a_link_as_itself(tmp_path: Path, target: Path) -> None:
    with View(stacked(tmp_path, LOWER)) as view:
        extract(view, b"d/s", target)

    assert os.readlink(target / "s") == "/etc/shadow"


@pytest.mark.parametrize("taken", ["file", "link"])
def test_overwrites_nothing(tmp_path: Path, target: Path, taken: str) -> None:
    if taken == "file":
        (target / "top").write_text("mine")
    else:
        (target / "top").symlink_to("nowhere")
    with (
        View(stacked(tmp_path, LOWER, UPPER)) as view,
        pytest.raises(PathUnusable, match="exists already"),
    ):
        extract(view, b"top", target)

    assert os.listdir(target) == ["top"]
    assert not (target / "nowhere").exists()


def test_leaves_nothing_behind(tmp_path: Path, target: Path) -> None:
    with View(stacked(tmp_path, LOWER)) as view:
        with pytest.raises(PathUnknown):
            extract(view, b"none", target)
        with pytest.raises(DiskFailed, match="No such file"):
            extract(view, b"d", target / "none")

    assert os.listdir(target) == []


CODE = """
import json, sys
from pathlib import Path
from client.unpack.options import Ownership
from client.view.extraction import extract
from client.view.view import View

place = Path(sys.argv[1])
target = place / "target"
target.mkdir()
with View(sorted(place.glob("layer-*"), reverse=True), Ownership.RECORDED) as view:
    extract(view, b"d", target)
(file,) = (target / "d").iterdir()
print(json.dumps([file.name, file.read_text(), oct(file.stat().st_mode), file.owner()]))
"""


def test_copies_for_an_ordinary_user() -> None:
    with users_place() as place:
        users_layers(place)
        assert run_as_user(CODE, place) == ["g", "2", "0o100755", "nobody"]
