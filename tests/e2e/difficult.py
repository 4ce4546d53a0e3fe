"""Images whose files are hard to carry, and whose layers are hard to lay on each other."""

import io
import os
import shutil
from pathlib import Path

from tests.client.unpack import nasty
from tests.client.unpack.archives import archive, directory, entry, file, link, symlink
from tests.e2e.images import LayoutWriter, host_architecture
from tests.e2e.sandbox import Sandbox, program

LONG = "names/" + "/".join(["long-" + "x" * 65] * 9 + ["end-" + "y" * 80])
_CAPABILITY = nasty.CAPABILITY.decode("latin-1")

# What is done to the nasty tree, a layer each.
_CHANGES = [
    [
        # Whiteouts of odd and long names, of a link's one name, of a directory with all in it.
        file("names/.wh.a:b"),
        file("names/.wh.n\n\x1b[31m"),
        file("names/.wh.\udcff\udcfe"),
        file("names/.wh. "),
        file(f"{LONG}-too", b"deep down"),
        file("other/.wh.linked-link"),
        file(".wh.nodes"),
        # Opaque directories, one with its mark behind what is new in it.
        directory("usr", mode=0o3751, uid=7, mtime=-9),
        file("usr/new", b"new"),
        file("usr/bin", b"anew", mode=0o600),
        file("usr/.wh..wh..opq"),
        directory("attributes/directory-2"),
        file("attributes/directory-2/.wh..wh..opq"),
        # Kinds change, links lead elsewhere.
        file("times", b"a file now"),
        directory("dangling", mode=0o711),
        file("dangling/inside"),
        symlink("outside", "/usr", mtime=-5),
        # Hard links across directories; they are set-id and capable.
        directory("one"),
        directory("two/deep"),
        file("one/f", b"linked", mode=0o6711, uid=9, pax={"SCHILY.xattr.security.capability": _CAPABILITY}),
        link("two/deep/f", "one/f"),
        link("two/g", "two/deep/f"),
    ],
    [
        # What went comes back as another thing; what came goes again.
        directory("nodes", mode=0o700, uid=2**31, mtime=-(2**31)),
        entry("nodes/null", kind="character", device=(5, 259), mode=0o604),
        entry("nodes/queue", kind="fifo", mode=0o611),
        file("names/a:b", b"back", pax={"mtime": "-1.000000001", "SCHILY.xattr.user.odd": "=\n"}),
        file(f"{os.path.dirname(LONG)}/.wh.{os.path.basename(LONG)}"),
        file("one/.wh.f"),
        directory("two", mode=0o500, mtime=-1),
        directory("dangling"),
        file("dangling/.wh..wh..opq"),
        file(".wh.times"),
        directory("sparse"),
    ],
]  # fmt: skip


def write_by_hand(layout: Path, scratch: Path, sandbox: Sandbox) -> None:
    """Write an image of the nasty tree, packed by tar, with layers upon it that are made entry by entry."""
    tree, packed = scratch / "tree", scratch / "packed.tar"
    tree.mkdir()
    nasty.make(tree)
    tar = [program("tar"), "-C", str(tree), "--numeric-owner", "--xattrs", "--xattrs-include=*"]
    sandbox.run(*tar, "--format=posix", "--sparse", "--sparse-version=1.0", "-cf", str(packed), ".")
    writer = LayoutWriter(layout)
    with packed.open("rb") as base:
        layers = [writer.add_layer(base, compressed=True)]
    layers += [writer.add_layer(io.BytesIO(archive(*each)), compressed=True) for each in _CHANGES]
    writer.finish(writer.add_image(layers, {"architecture": host_architecture(), "os": "linux"}))


def write_by_buildah(layout: Path, scratch: Path, sandbox: Sandbox) -> None:
    """Write an image whose whiteouts and opaque directories buildah found on an overlay."""
    storage = ["--root", str(scratch / "root"), "--runroot", str(scratch / "run")]

    def buildah(verb: str, *arguments: str) -> str:
        command = [program("buildah"), *storage, "--storage-driver", "overlay", verb, *arguments]
        # A cache of its own comes with a mount namespace of its own, where nobody else sees a mount.
        cache = None if verb in ("mount", "umount") else scratch / "cache"
        return sandbox.run(*command, cache=cache).strip()

    image = "scratch"
    for change in (nasty.make, _change, _change_again):
        container = buildah("from", image)
        try:
            change(Path(buildah("mount", container)))
        finally:
            buildah("umount", container)
        image = buildah("commit", "--quiet", container)
    buildah("push", "--quiet", image, f"oci:{layout}:latest")
    buildah("rm", "--all")


def _change(root: Path) -> None:
    (root / "names/a:b").unlink()
    (root / f"{LONG}-too").write_text("deep down")
    shutil.rmtree(root / "times")
    (root / "times").write_text("a file now")
    (root / "dangling").unlink()
    (root / "dangling").mkdir()
    # Removed and made again: an opaque directory.
    shutil.rmtree(root / "usr/bin")
    (root / "usr/bin").mkdir(0o751)
    (root / "usr/bin/new").write_text("new")
    (root / "one").mkdir()
    (root / "one/f").write_text("linked")
    os.setxattr(root / "one/f", "security.capability", nasty.CAPABILITY)
    (root / "two").mkdir()
    os.link(root / "one/f", root / "two/f")
    os.utime(root / "two", ns=(5, -3_500_000_000))


def _change_again(root: Path) -> None:
    (root / LONG).unlink()
    (root / "nodes/null").unlink()
    (root / "times").unlink()
    (root / "names/a:b").write_text("back")
    (root / "two/f").chmod(0o4711)
    (root / "sbin").unlink()
    (root / "sbin").symlink_to("usr")
