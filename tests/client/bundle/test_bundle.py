"""A bundle appears whole or not at all, and closed to others."""

import json
import os
import stat
from pathlib import Path

import pytest

from client.bundle.bundle import write_bundle
from client.bundle.errors import BundleRefused, UserUnknown
from client.mounts import is_mounted, mount, unmount
from client.view.errors import PathUnusable
from storage.oci.errors import RequestInvalid
from tests.client.bundle.images import bundle, filler, image
from tests.client.unpack.archives import archive, directory, file, symlink
from tests.client.unpack.overlays import needs_root
from tests.client.view.stacks import stacked

CONFIG: dict[str, object] = {"Cmd": ["x"]}


def test_UNP_10_is_closed_to_others(tmp_path: Path) -> None:
    place = bundle(tmp_path / "bundle", CONFIG)

    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE((place / "config.json").stat().st_mode) == 0o600
    assert sorted(os.listdir(place)) == ["config.json", "rootfs"]
    assert json.loads((place / "config.json").read_text())["root"]["path"] == "rootfs"
    assert os.listdir(tmp_path) == ["bundle"]


def test_takes_an_empty_directory(tmp_path: Path) -> None:
    place = tmp_path / "bundle"
    place.mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(place)

    bundle(tmp_path / "link", CONFIG)

    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert (place / "config.json").exists()


@pytest.mark.parametrize("taken", ["file-in-it", "file"])
def test_refuses_a_place_that_is_taken(tmp_path: Path, taken: str) -> None:
    place = tmp_path / "bundle"
    if taken == "file":
        place.write_text("mine")
    else:
        place.mkdir()
        (place / "mine").touch()

    with pytest.raises(RequestInvalid, match=r"is not empty|is not a directory"):
        bundle(place, CONFIG)

    assert os.listdir(tmp_path) == ["bundle"]
    assert place.read_text() == "mine" if taken == "file" else os.listdir(place) == ["mine"]


@pytest.mark.parametrize(
    ("config", "error"),
    [
        pytest.param({"Cmd": ["x"], "User": "nobody-here"}, UserUnknown, id="user"),
        pytest.param({"Cmd": ["x"], "Volumes": {"/etc/passwd": {}}}, BundleRefused, id="volume-over-a-file"),
        pytest.param({"Cmd": ["x"], "Volumes": {"/a\0b": {}}}, BundleRefused, id="volume-with-a-NUL"),
        pytest.param({"Cmd": ["x"], "Volumes": {"/loop": {}}}, PathUnusable, id="volume-in-a-loop"),
        pytest.param({}, BundleRefused, id="command"),
    ],
)
def test_leaves_nothing_of_what_it_refuses(
    tmp_path: Path, config: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        bundle(tmp_path / "bundle", config, directory("d", mode=0), symlink("loop", "loop"))

    assert os.listdir(tmp_path) == []


def test_unpacks_nothing_for_an_image_without_a_command(tmp_path: Path) -> None:
    def fill(_: Path) -> None:
        pytest.fail("it was asked to")

    with pytest.raises(BundleRefused):
        write_bundle(tmp_path / "bundle", image(), fill)


@needs_root
def test_takes_a_mount_as_the_root_and_the_mount_away_after_an_error(tmp_path: Path) -> None:
    layers = tmp_path / "layers"
    layers.mkdir()
    stack = stacked(layers, archive(file("etc/passwd", b"u:x:5:6:::\n")), archive(file("f", b"1")))
    place = tmp_path / "bundle"

    with pytest.raises(UserUnknown):
        write_bundle(place, image({"Cmd": ["x"], "User": "v"}), lambda root: mount(stack, root))
    assert os.listdir(tmp_path) == ["layers"]
    assert (stack[0] / "f").read_bytes() == b"1"

    write_bundle(place, image({"Cmd": ["x"], "User": "u"}), lambda root: mount(stack, root))
    try:
        assert is_mounted(place / "rootfs")
        assert json.loads((place / "config.json").read_text())["process"]["user"] == {"uid": 5, "gid": 6}
    finally:
        unmount(place / "rootfs")


def test_volumes_never_take_what_lies_outside(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    data = archive(symlink("v", str(outside)), symlink("w", "../../../.." + str(outside)))

    config: dict[str, object] = {"Cmd": ["x"], "Volumes": {"/v": {}, "/w": {}}}
    write_bundle(tmp_path / "bundle", image(config), filler(data))

    assert [os.listdir(tmp_path / "bundle/volumes" / number) for number in "01"] == [[], []]
