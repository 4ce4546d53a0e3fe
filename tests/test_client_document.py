"""docs/client.md: every example prints what the page says."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry.settings import Settings
from storage.oci.platform import Platform
from tests import console
from tests.client.store.layouts import Layout, layer
from tests.client.unpack.archives import directory, file, symlink
from tests.registry.conftest import serving

DOCUMENT = Path(__file__).parent.parent / "docs/client.md"
BUSYBOX = shutil.which("busybox")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        os.geteuid() != 0 or BUSYBOX is None or shutil.which("runc") is None,
        reason="mounts and runs: needs root, busybox-static and runc",
    ),
]


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody who follows the page, with a home and a registry of their own."""

    directory: Path
    environment: dict[str, str]
    registry: str

    def types(self, example: console.Example) -> str:
        return console.run(example, self.directory, self.environment, {"127.0.0.1:5000": self.registry})


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    home = tmp_path_factory.mktemp("reader")
    work = home / "work"
    work.mkdir()
    programs = Path(sys.executable).parent
    environment = {
        "HOME": str(home),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "CARGOHOLD_STORE": str(home / "store"),
        "LC_ALL": "C.UTF-8",
    }
    settings = Settings(data=home / "registry", access_log=False, collect_every_seconds=0)
    with serving(settings) as url:
        found = Reader(work, environment, url.removeprefix("http://"))
        for tag, layout in layouts(home).items():
            target = f"{found.registry}/demo/app:{tag}"
            found.types(console.Example(f"cargohold copy -q oci:{layout.root}:latest {target}", ""))
        yield found


def layouts(home: Path) -> dict[str, Layout]:
    """Two versions of one image, which busybox makes runnable."""
    assert BUSYBOX is not None
    base = layer(
        directory("bin/"),
        file("bin/busybox", Path(BUSYBOX).read_bytes(), mode=0o755),
        *(symlink(f"bin/{name}", "busybox") for name in ("sh", "echo", "id", "cat")),
        directory("etc/"),
        file("etc/passwd", b"root:x:0:0:root:/:/bin/sh\n"),
        file("etc/motd", b"welcome\n"),
    )
    new = layer(file("etc/motd", b"welcome back\n"), directory("srv/"), file("srv/data", b"42\n"))
    made = {tag: Layout(home / f"layout-{tag}") for tag in ("1", "2")}
    made["1"].tag(made["1"].image(base, config={"Cmd": ["sh"]}))
    made["2"].tag(made["2"].image(base, new, config={"Cmd": ["sh"]}))
    return made


def test_every_example_prints_what_the_page_says(reader: Reader) -> None:
    wrong = []
    for example in console.examples(DOCUMENT):
        printed = reader.types(example)
        if not example.matches(printed):
            wrong.append(f"$ {example.command}\n{printed}")
    assert not wrong, "\n".join(wrong)


def test_the_library_example_runs(reader: Reader) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)

    printed = reader.types(console.Example(f"python - <<'END'\n{block}END", ""))

    platform, content = printed.splitlines()
    assert platform == f"{Platform.host()} 2"
    assert content == "b'welcome back\\n'"
    assert (reader.directory / "library-tree/srv/data").read_bytes() == b"42\n"
