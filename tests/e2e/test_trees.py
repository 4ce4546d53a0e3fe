"""Unpacked, mounted or in a bundle, an image is file by file what umoci makes of it."""

import contextlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.client.unpack.trees import listing
from tests.client.view.users import AS_USER, USER
from tests.e2e import difficult
from tests.e2e.clients import CARGOHOLD, Cargohold
from tests.e2e.sandbox import Ended, Sandbox, program
from tests.e2e.servers import Registry

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

Tree = dict[bytes, dict[str, object]]
WRITERS = {"by-hand": difficult.write_by_hand, "by-buildah": difficult.write_by_buildah}


@pytest.fixture(scope="module", params=WRITERS)
def layout(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, lab: Sandbox) -> Path:
    """An image that is hard to unpack."""
    place = tmp_path_factory.mktemp("image")
    (place / "scratch").mkdir()
    WRITERS[request.param](place / "layout", place / "scratch", lab)
    return place / "layout"


@pytest.fixture(scope="module")
def expected(layout: Path, tmp_path_factory: pytest.TempPathFactory, lab: Sandbox) -> Tree:
    """What umoci makes of it."""
    bundle = tmp_path_factory.mktemp("umoci") / "bundle"
    lab.run(program("umoci"), "unpack", "--image", f"{layout}:latest", str(bundle))
    return _tree(bundle / "rootfs")


@pytest.fixture(scope="module")
def pulled(
    layout: Path, registry: Registry, tmp_path_factory: pytest.TempPathFactory, lab: Sandbox
) -> tuple[Cargohold, str]:
    """A store that has it, from the registry, and its name."""
    name = f"{registry.host}/e2e/difficult:{layout.parent.name}"
    cargohold = Cargohold(lab, tmp_path_factory.mktemp("store"))
    cargohold.run("copy", f"oci:{layout}:latest", name)
    cargohold.run("pull", name)
    return cargohold, name


@contextlib.contextmanager
def _unpacked(cargohold: Cargohold, name: str, place: Path) -> Iterator[Path]:
    cargohold.run("unpack", name, str(place / "root"))
    # Closed to others; see `cargohold unpack --help`.
    assert (place / "root").stat().st_mode & 0o7777 == 0o700
    (place / "root").chmod(0o755)
    yield place / "root"


@contextlib.contextmanager
def _mounted(cargohold: Cargohold, name: str, place: Path) -> Iterator[Path]:
    (place / "mnt").mkdir()
    cargohold.run("mount", name, str(place / "mnt"))
    try:
        yield place / "mnt"
    finally:
        cargohold.run("umount", str(place / "mnt"))


@contextlib.contextmanager
def _bundled(cargohold: Cargohold, name: str, place: Path) -> Iterator[Path]:
    cargohold.run("bundle", name, str(place / "bundle"), "--", "/bin/sh")
    yield place / "bundle/rootfs"


Way = Callable[[Cargohold, str, Path], contextlib.AbstractContextManager[Path]]


@pytest.mark.parametrize("way", [_unpacked, _mounted, _bundled])
def test_is_the_tree_that_umoci_makes(
    pulled: tuple[Cargohold, str], expected: Tree, tmp_path: Path, way: Way
) -> None:
    with way(*pulled, tmp_path) as root:
        found = _tree(root)

    different = {
        path: (found.get(path), expected.get(path))
        for path in found.keys() | expected
        if found.get(path) != expected.get(path)
    }
    assert not different
    # What makes the image difficult did come through.
    text = str(list(found.values()))
    for fact in ("'device': ", "'security.capability'", "'linked to': ", "'user.", "'0o10"):
        assert fact in text
    # buildah writes times before 1970 as 0.
    assert ("'mtime': -" in text) == (b"nodes/queue" in found)
    assert max(map(len, found)) > 700


@pytest.mark.parametrize("verb", ["unpack", "bundle"])
def test_is_for_an_ordinary_user_the_tree_that_umoci_makes_without_root(
    pulled: tuple[Cargohold, str], layout: Path, lab: Sandbox, verb: str
) -> None:
    """But for devices, which are left out, and for how owners are written down (docs/client.md)."""
    name = pulled[1]
    with tempfile.TemporaryDirectory(prefix="user-") as home:
        shutil.copytree(layout, f"{home}/layout")
        subprocess.run(["chown", "-R", f"{USER}:{USER}", home], check=True)

        def run(*command: str) -> Ended:
            return lab.end(*AS_USER, *command, environment={"HOME": home}, directory=Path(home))

        umoci = run(program("umoci"), "unpack", "--rootless", "--image", "layout:latest", "umoci")
        assert umoci.code == 0, umoci.err
        assert run(str(CARGOHOLD), "pull", "-q", name).code == 0
        command = ["--", "/bin/sh"] if verb == "bundle" else []
        made = run(str(CARGOHOLD), verb, name, "made", *command)
        root = Path(home, "made", "rootfs" if verb == "bundle" else "")
        found, expected = _users_tree(root), _users_tree(Path(home, "umoci/rootfs"))
        devices = {path for path in expected if path.startswith(b"nodes/") and not found.get(path)}

    assert made.out == "made\n"
    assert re.search("warning: [1-9] x device left out\n", made.err)
    assert devices
    assert not {path for path in expected.keys() - devices if expected[path] != found.get(path)}
    assert expected.keys() - devices == found.keys()


def test_check_finds_nothing_wrong(pulled: tuple[Cargohold, str]) -> None:
    cargohold, _ = pulled

    assert cargohold.run("store", "check") == ""


def _users_tree(root: Path) -> Tree:
    found = _tree(root)
    for facts in found.values():
        attributes = facts["xattrs"]
        assert isinstance(attributes, dict)
        attributes.pop("user.rootlesscontainers", None)  # umoci's
        attributes.pop("user.containers.override_stat", None)  # ours, and podman's
    return found


def _tree(root: Path) -> Tree:
    """List a tree, but for the time of its root, on which no two programs agree."""
    found = listing(root)
    del found[b"."]["mtime"]
    # An overlay counts the names that a file has in its layer: one that is left is no hard link any more.
    names = [facts.get("linked to") for facts in found.values()]
    for facts in found.values():
        if names.count(facts.get("linked to")) == 1:
            facts.pop("linked to", None)
    return found
