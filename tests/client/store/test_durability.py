"""The order in which a pull makes things durable, at its system calls: names last (CLI-03, UNP-12)."""

import re
from pathlib import Path

import pytest

from client.store.store import Store
from tests.client.store.layouts import Layout
from tests.client.store.processes import OTHER, busy_layer, done, pull_layout, take, waiting
from tests.faults.tracing import needs_tracer, traced

CALLS = "pwrite64,write,fsync,fdatasync,syncfs,rename,renameat,renameat2,mkdir"


def calls_of_a_pull(tmp_path: Path, layout: Layout) -> list[str]:
    """Trace the pull of `latest`; return what it did to the names in the store, as `rename tmp blobs/…`."""
    root, trace = tmp_path / "store", tmp_path / "trace"
    process, begin = waiting(pull_layout, root, layout.root)
    assert process.pid is not None
    with traced(process.pid, trace, "-e", f"trace={CALLS}"):
        begin.send(None)
        assert done(process) == 0
    return [step for line in whole_lines(trace.read_text()) if (step := _step(line, root))]


def whole_lines(trace: str) -> list[str]:
    """Put calls together that another thread's interrupted; each counts where it ends."""
    begun: dict[str, str] = {}
    lines = []
    for line in trace.splitlines():
        thread = line.partition(" ")[0]
        if "<unfinished ...>" in line:
            begun[thread] = line.partition("<unfinished")[0]
        elif "resumed>" in line:
            lines.append(begun.pop(thread) + line.partition("resumed>")[2])
        else:
            lines.append(line)
    return lines


def _step(line: str, root: Path) -> str:
    if (match := re.match(r"^\d+ +(\w+)\((.*)\) += \d+", line)) is None:
        return ""
    paths = [path for path in re.findall(r'[<"](/[^>"]*)[>"]', match[2]) if path.startswith(str(root))]
    return " ".join([match[1], *(str(Path(path).relative_to(root)) for path in paths)]) if paths else ""


def positions(steps: list[str], pattern: str) -> list[int]:
    found = [number for number, step in enumerate(steps) if re.fullmatch(pattern, step)]
    assert found, (pattern, steps)
    return found


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "layout")
    base = busy_layer(1)
    layout.tag(layout.image(base, busy_layer(2, 1)))
    layout.tag(layout.image(base), "other")
    return layout


@needs_tracer
def test_cli_03_bytes_before_names_and_the_tag_last(tmp_path: Path, layout: Layout) -> None:
    Store(tmp_path / "store").close()

    steps = calls_of_a_pull(tmp_path, layout)

    published = positions(steps, r"rename (partial|tmp)/\S+ blobs/\S+")
    assert len(published) == 4, "two layers, a configuration and a manifest"
    for number in published:
        source = steps[number].split()[1]
        assert f"fsync {source}" in steps[:number], "the bytes, before the name"
        # Nothing is written to them after their fsync.
        synced = max(positions(steps[:number], f"fsync {re.escape(source)}"))
        assert f"pwrite64 {source}" not in steps[synced:number]
        assert "fsync blobs/sha256" in steps[number:], "the name, before it is used"
    layers = positions(steps, r"rename tmp/\S+ layers/sha256-\S+")
    (synced,) = positions(steps, "syncfs layers")
    assert len(layers) == 2
    assert synced < min(layers)
    # All of a layer, its record too, is written before.
    assert max(positions(steps, r"write tmp/\S+/layer\.json")) < synced
    assert not [step for step in steps[synced:] if re.match(r"(p?write\d*|mkdir) tmp/\S+/diff", step)]
    named = next(number for number in positions(steps, "fsync layers") if number > max(layers))
    commit = max(positions(steps, r"pwrite64 state\.db-wal"))
    begun = min(number for number in positions(steps, r"pwrite64 state\.db-wal") if number > named)
    # Not one byte of the rows before all that they name has its durable name.
    assert positions(steps, r"pwrite64 state\.db-wal")[0] == begun
    assert max(published) < begun
    assert max(positions(steps[:begun], "fsync blobs/sha256")) > max(published)
    durable, *_ = positions(steps[commit:], r"(fsync|fdatasync) state\.db-wal")
    (index,) = positions(steps, r"rename tmp/\S+ index\.json")
    assert commit + durable < index
    assert positions(steps, r"fsync \.")[-1] > index


@needs_tracer
def test_cli_03_a_layer_that_is_there_needs_no_sync_of_its_own(tmp_path: Path, layout: Layout) -> None:
    with Store(tmp_path / "store") as store:
        take(store, layout.root)
        take(store, layout.root, OTHER, "other")
        digest = store.find(OTHER)
        store.forget(digest)
        store.forget(store.find("registry.example/team/app:v1"))

    steps = calls_of_a_pull(tmp_path, layout)

    assert not [step for step in steps if step.startswith("syncfs") or " layers/" in step]
    assert not [step for step in steps if re.match(r"rename \S+ blobs/", step)]


@needs_tracer
def test_unp_10_what_a_store_is_made_of_is_durable(tmp_path: Path, layout: Layout) -> None:
    (tmp_path / "store").mkdir()

    steps = calls_of_a_pull(tmp_path, layout)

    for name in ("blobs", "layers", "partial", "blobs/sha256", "blobs/sha512"):
        made = positions(steps, f"mkdir {name}")[0]
        parent = re.escape(str(Path(name).parent))
        assert [number for number in positions(steps, f"fsync {parent}") if number > made], name
        first_use = [number for number, step in enumerate(steps) if f" {name}/" in step and number > made]
        assert min(number for number in positions(steps, f"fsync {parent}") if number > made) < min(
            first_use, default=len(steps)
        ), name
