"""Whatever bytes an archive has, it is read or refused with an error of ours."""

import io
import os
import tarfile
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from client.places import archive, docker_archive
from client.places.place import Place
from storage.oci.errors import RegistryError
from tests.client.places.samples import Sample, everything
from tests.client.places.tars import pack, packed, saved

EXAMPLES = int(os.environ.get("CARGOHOLD_FUZZ_EXAMPLES", "150"))


def _seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        everything(root / "layout")
        sample = Sample(root / "small")
        sample.name(sample.image(), "v1")
        return [
            packed(root / "layout", root / "a.tar").read_bytes(),
            packed(root / "small", root / "b.tar").read_bytes(),
            pack(root / "c.tar", saved()).read_bytes(),
        ]


SEEDS = _seeds()
CHANGES = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=16)), max_size=4
)


def spoiled(seed: bytes, changes: list[tuple[float, bytes]], stop: float) -> bytes:
    """Overwrite bytes, mostly of headers, mend the checksums of half of them, and cut the end off."""
    spoilt = bytearray(seed)
    for number, (where, what) in enumerate(changes):
        header = int(where * (len(seed) // 512)) * 512
        offset = header + len(what) * 31 % 496
        spoilt[offset : offset + len(what)] = what
        if number % 2:
            block = bytearray(spoilt[header : header + 512])
            block[148:156] = b" " * 8
            spoilt[header + 148 : header + 156] = b"%06o\0 " % sum(block)
    return bytes(spoilt[: int(len(spoilt) * stop)])


def read(place: Place) -> None:
    manifest = place.resolve(None)
    for child in manifest.manifests:
        place.manifest(child)
    place.referrers(manifest.digest)
    for blob in manifest.blobs:
        with place.sources()[0].open(blob, 0, None) as stream:
            assert sum(map(len, stream)) == blob.size


@given(seed=st.sampled_from(SEEDS), changes=CHANGES, stop=st.one_of(st.just(1.0), st.floats(0, 1)))
@settings(max_examples=EXAMPLES, deadline=None)
def test_reads_an_archive_or_refuses_it(seed: bytes, changes: list[tuple[float, bytes]], stop: float) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(spoiled(seed, changes, stop))
        file.flush()
        try:
            with archive.opened(Path(file.name)) as tar:
                read(docker_archive.read(tar))
        except RegistryError:
            return


@given(names=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), max_size=5))
@settings(max_examples=EXAMPLES, deadline=None)
def test_lists_the_names_that_other_programs_do(names: list[str]) -> None:
    """What it lists, tarfile lists too, and at the same place."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for number, name in enumerate(names):
            entry = tarfile.TarInfo(name)
            entry.size = number
            tar.addfile(entry, io.BytesIO(bytes([number]) * number))
    with tempfile.NamedTemporaryFile() as file:
        file.write(buffer.getvalue())
        file.flush()
        try:
            with archive.opened(Path(file.name)) as ours:
                found = [ours.find(os.path.normpath(name)) for name in names]
                contents = [member and ours.read(member, 100) for member in found]
        except RegistryError:
            assert _is_odd(names)
            return
    assert all(
        content == bytes([number]) * number
        or os.path.normpath(names[number]) == "."
        or names[number][-1] == "/"
        for number, content in enumerate(contents)
    )


def _is_odd(names: list[str]) -> bool:
    """Tell whether a list has names that are refused: leading out, twice, or of nothing."""
    paths = [os.path.normpath(name) for name in names]
    leads_out = any(".." in name.split("/") or name.startswith("/") for name in names)
    return leads_out or len(set(paths)) < len(paths) or "." in paths or not names
