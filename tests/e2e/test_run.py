"""What comes out of the registry can be unpacked and run."""

import json
from pathlib import Path

import pytest

from tests.e2e.clients import Skopeo
from tests.e2e.images import Image, ImageCache
from tests.e2e.sandbox import Sandbox, program
from tests.e2e.servers import Registry
from tests.e2e.trees import tree

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def _unpack(lab: Sandbox, skopeo: Skopeo, image: Image, target: str) -> Path:
    """Push an image, pull it into a new OCI layout, unpack that and return the bundle."""
    umoci = program("umoci")
    skopeo.push(skopeo.load(image), target)
    layout, bundle = skopeo.directory / "layout", skopeo.directory / "bundle"
    skopeo.copy(f"docker://{target}", f"oci:{layout}:latest", "--src-tls-verify=false")
    lab.run(umoci, "unpack", "--image", f"{layout}:latest", str(bundle))
    return bundle


def test_runc_runs_busybox(
    lab: Sandbox, skopeo: Skopeo, registry: Registry, repository: str, images: ImageCache
) -> None:
    runc = program("runc")
    bundle = _unpack(lab, skopeo, images.busybox(), f"{registry.host}/{repository}:v1")
    configuration = json.loads((bundle / "config.json").read_text())
    configuration["process"]["terminal"] = False
    configuration["process"]["args"] = ["/bin/sh", "-c", "busybox id -u; echo it runs"]
    (bundle / "config.json").write_text(json.dumps(configuration))

    state = skopeo.directory / "runc"
    output = lab.run(runc, "--root", str(state), "run", "--bundle", str(bundle), skopeo.directory.name)

    assert output == "0\nit runs\n"


def test_debian_tree_is_what_was_pushed(
    lab: Sandbox, skopeo: Skopeo, registry: Registry, repository: str, images: ImageCache
) -> None:
    bundle = _unpack(lab, skopeo, images.debian(), f"{registry.host}/{repository}:v1")
    original = skopeo.directory / "original"
    original.mkdir()
    options = ["--extract", "--preserve-permissions", "--numeric-owner", "--xattrs", "--xattrs-include=*"]
    lab.run(program("tar"), *options, "--file", str(images.debian_tar()), "--directory", str(original))

    unpacked, expected = tree(bundle / "rootfs"), tree(original)

    assert len(expected) > 5000
    # Not `==` on the whole: pytest would print both.
    assert not {path for path in expected.keys() | unpacked if expected.get(path) != unpacked.get(path)}
