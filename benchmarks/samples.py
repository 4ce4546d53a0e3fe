"""The images that the client is measured on, made once and kept in `.cache/benchmarks`, as OCI layouts."""

import gzip
import hashlib
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmarks.servers import program

_CACHE = Path(__file__).parents[1] / ".cache/benchmark-images"
_OCI = "application/vnd.oci.image"
_MIB = 1 << 20
# A layer each, on top of a Debian: trees of many small files as people have them in images.
_TREES = (
    ("ansible", "sympy"),
    ("scipy", "pandas", "django", "matplotlib", "scikit-learn"),
    ("sphinx", "jupyterlab", "boto3"),
)
_LARGE_LAYERS = 3
_LARGE_FILES = 2
_LARGE_FILE = 64 * _MIB


def small_files() -> Path:
    """Return the layout of an image of about 98,000 files in four layers, 1.4 GB, 377 MB compressed."""
    return _made("small-files", _small_tars)


def large_layers() -> Path:
    """Return the layout of an image of three layers with two large files each, which compress little."""
    return _made("large-layers", _large_tars)


def _made(name: str, tars: Callable[[Path], Iterator[Path]]) -> Path:
    layout = _CACHE / name
    if not (layout / "index.json").exists():
        shutil.rmtree(layout, ignore_errors=True)
        work = layout / "work"
        work.mkdir(parents=True)
        print(f"making the image {name}, which takes minutes the first time", file=sys.stderr)
        _write_layout(layout, list(tars(work)))
        shutil.rmtree(work)
    return layout


def _small_tars(work: Path) -> Iterator[Path]:
    debian = work / "debian.tar"
    _run(program("mmdebstrap"), "--variant=minbase", "--format=tar", "bookworm", str(debian))
    yield debian
    for number, packages in enumerate(_TREES):
        tree = work / str(number)
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        _run(*pip, "--target", str(tree / f"opt/{number}"), *packages)
        yield _tar(tree)


def _large_tars(work: Path) -> Iterator[Path]:
    for layer in range(_LARGE_LAYERS):
        tree = work / str(layer)
        tree.mkdir()
        for number in range(_LARGE_FILES):
            noise = random.Random(f"{layer}/{number}")
            with (tree / f"{layer}-{number}").open("wb") as file:
                for _ in range(0, _LARGE_FILE, 2 * _MIB):
                    file.write(noise.randbytes(_MIB) + bytes(_MIB))
        yield _tar(tree)


def _tar(tree: Path) -> Path:
    tar = tree.with_suffix(".tar")
    _run(program("tar"), "-C", str(tree), "--numeric-owner", "--sort=name", "-cf", str(tar), ".")
    return tar


def _write_layout(layout: Path, tars: list[Path]) -> None:
    diff_ids = [f"sha256:{_sha256(tar)}" for tar in tars]
    layers = [_blob(layout, _gzipped(tar), f"{_OCI}.layer.v1.tar+gzip") for tar in tars]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_OCI}.manifest.v1+json",
        "config": _document(layout, config, f"{_OCI}.config.v1+json"),
        "layers": layers,
    }
    entry = _document(layout, manifest, f"{_OCI}.manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


def _gzipped(tar: Path) -> Path:
    target = tar.with_suffix(".tar.gz")
    with tar.open("rb") as source, gzip.GzipFile(target, "wb", compresslevel=6, mtime=0) as file:
        shutil.copyfileobj(source, file, _MIB)
    return target


def _document(layout: Path, document: Mapping[str, object], media_type: str) -> dict[str, object]:
    path = layout / "work/document"
    path.write_text(json.dumps(document))
    return _blob(layout, path, media_type)


def _blob(layout: Path, path: Path, media_type: str) -> dict[str, object]:
    digest = _sha256(path)
    target = layout / "blobs/sha256" / digest
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": target.stat().st_size}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
