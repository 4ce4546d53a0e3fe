"""The house stands: which package may import which, and what the wheel holds."""

import ast
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("storage", "client", "registry")
# Only these modules may know these libraries.
ONLY_IN = {
    "boto3": {"storage/s3.py"},
    "psycopg": {"storage/postgresql.py"},
    "sqlite3": {"storage/database.py"},
    "pysqlite3": {"storage/database.py"},
    "uvicorn": {"registry/server.py", "registry/protocol.py", "registry/cycle.py", "registry/handshake.py"},
    "starlette": {"registry/"},
    "httpx": {"client/"},
    "rich": {"client/cli/rich_progress.py"},
    "click": {"client/cli/", "registry/cli.py", "registry/admin/"},
}


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def _modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    """storage <- client <- registry."""
    allowed = PACKAGES[: PACKAGES.index(package) + 1]
    for file in _modules(package):
        for name in _imports(file):
            top = name.split(".")[0]
            assert top not in PACKAGES or top in allowed, f"{file} imports {name}"


def test_the_vocabulary_imports_nothing_but_the_standard_library() -> None:
    for file in _modules("storage/oci"):
        for name in _imports(file):
            assert name.startswith("storage.oci") or name.split(".")[0] in sys.stdlib_module_names, (
                file,
                name,
            )


def test_storage_knows_no_event_loop() -> None:
    for file in _modules("storage"):
        assert not {"asyncio", "anyio"} & set(_imports(file)), file


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_stays_in_its_module(library: str) -> None:
    for package in PACKAGES:
        for file in _modules(package):
            where = file.relative_to(ROOT).as_posix()
            if any(name.split(".")[0] == library for name in _imports(file)):
                assert any(where.startswith(place) for place in ONLY_IN[library]), (
                    f"{where} imports {library}"
                )


def test_the_wheel_holds_exactly_the_three_packages(tmp_path: Path) -> None:
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--disable-pip-version-check",
            "--no-deps",
            "-w",
            tmp_path,
            ROOT,
        ],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("cargohold-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == set(PACKAGES)
    assert {"registry/migrations/0001_names.sql", "client/store/schema/0001_images.sql"} <= set(names)
