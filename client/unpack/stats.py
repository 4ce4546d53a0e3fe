"""What became of one layer."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from storage.oci.digest import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerStats:
    diff_id: Digest
    entries: int
    unpacked: int
    """Bytes of the decompressed stream."""
    content: int
    """Bytes of the layer's regular files, holes included."""
    opaque_root: bool
    """The layer hides all below it. Overlayfs ignores the mark on a layer's root: mount none below."""
    implied: tuple[bytes, ...]
    """Directories the layer needs and does not describe, relative to the root: made root's, 0755, of 1970.

    In overlay form they cover the lower layer's attributes; see `lowers.inherit_directories`.
    """
    notices: Mapping[str, int]
    """What was left out, and how often: "device left out": 3. The last layer tells of directories."""


def left_out(layers: Iterable[LayerStats]) -> Counter[str]:
    """Count what was left out of all layers together."""
    total: Counter[str] = Counter()
    for layer in layers:
        total.update(layer.notices)
    return total
