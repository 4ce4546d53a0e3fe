"""A root to unpack into, beside a victim that nothing may touch."""

import io
import os
import stat
from pathlib import Path

from client.unpack.layer import apply_layers, unpack_layer
from client.unpack.limits import Limits
from client.unpack.options import Form, Options
from client.unpack.stats import LayerStats
from tests.client.unpack.trees import listing


class Sandbox:
    def __init__(self, directory: Path) -> None:
        self.root = directory / "root"
        self.root.mkdir()
        self.victim = directory / "victim"
        self.victim.mkdir()
        (self.victim / "hello").write_text("hello")
        self._before = listing(self.victim)
        self._directory = directory

    def unpack(self, data: bytes, form: Form = Form.OVERLAY, **options: object) -> LayerStats:
        """Unpack one layer; whatever happens, the victim and all beside the root are as they were."""
        try:
            return unpack_layer(
                io.BytesIO(data),
                self.root,
                diff_id=None,
                options=Options(form=form, **options),  # type: ignore[arg-type]  # passed on
            )
        finally:
            assert listing(self.victim) == self._before
            assert sorted(os.listdir(self._directory)) == ["root", "victim"]

    def apply(self, *layers: bytes) -> list[LayerStats]:
        """Unpack layers, lowest first, into one flat tree."""
        return self.apply_to(self.root, *layers)

    @staticmethod
    def apply_to(root: Path, *layers: bytes) -> list[LayerStats]:
        streams = [(io.BytesIO(layer), None) for layer in layers]
        return apply_layers(streams, root, options=Options(form=Form.FLAT))

    def tree(self) -> dict[str, object]:
        """What the root holds: a file's bytes, a link's target, None for a directory, else the kind."""
        found: dict[str, object] = {}
        for here, directories, files in os.walk(self.root):
            for name in directories + files:
                path = Path(here, name)
                found[str(path.relative_to(self.root))] = _what(path)
        return found


def _what(path: Path) -> object:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return "-> " + os.readlink(path)
    if stat.S_ISDIR(mode):
        return None
    if stat.S_ISREG(mode):
        return path.read_bytes()
    if stat.S_ISFIFO(mode):
        return "fifo"
    device = path.lstat().st_rdev
    return f"{'character' if stat.S_ISCHR(mode) else 'block'} {os.major(device)}:{os.minor(device)}"


SMALL = Limits(unpacked=64 << 20, entries=1000)
