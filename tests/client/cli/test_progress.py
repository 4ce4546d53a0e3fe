"""How progress is shown: docker's lines, JSON, and bars that fit the terminal."""

import dataclasses
import io
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from client.cli.progress import Json, Plain, Silent, make_renderer
from client.cli.rich_progress import Board, Rich
from client.progress import (
    Advanced,
    BlobEvent,
    Done,
    Event,
    Failed,
    Finished,
    Planned,
    Pulling,
    Restarted,
    Retried,
    Started,
    Unpacked,
    Unpacking,
    Waiting,
)
from storage.oci.digest import Digest
from storage.oci.names import ImageReference

ROOT = Path(__file__).parents[3]
HUB = ImageReference.parse("alpine:3.20")
A, B = Digest.of(b"a"), Digest.of(b"b")
MIB = 1024 * 1024
PULL: tuple[Event, ...] = (
    Pulling(HUB),
    Planned(A, 2 * MIB),
    Planned(B, 10),
    Started(A, 2 * MIB, 0),
    Advanced(A, MIB),
    Retried(A, "hub.example", "cut \x1b[31moff", 1.4),
    Advanced(A, 2 * MIB),
    Finished(A, 2 * MIB, "fetched"),
    Finished(B, 10, "present"),
    Unpacking(A),
    Unpacked(A, 7),
    Done(HUB, B, True),
)


def plain(*events: Event) -> list[str]:
    stream = io.StringIO()
    renderer = Plain(stream)
    for event in events:
        renderer(event)
    renderer.close()
    return stream.getvalue().splitlines()


def test_says_what_scripts_look_for_in_dockers_words() -> None:
    a, b = A.hex[:12], B.hex[:12]

    assert plain(*PULL) == [
        "3.20: Pulling from library/alpine",
        f"{a}: Pulling fs layer",
        f"{b}: Pulling fs layer",
        f"{a}: Downloading",
        f"{a}: Retrying in 1 seconds: hub.example: cut \\x1b[31moff",
        f"{a}: Verifying Checksum",
        f"{a}: Download complete",
        f"{b}: Already exists",
        f"{a}: Extracting",
        f"{a}: Pull complete",
        f"Digest: {B}",
        "Status: Downloaded newer image for alpine:3.20",
    ]


def test_says_more_where_it_goes_wrong() -> None:
    a = A.hex[:12]

    assert plain(Waiting(A), Restarted(A), Failed(A, "no\nanswer"), Done(HUB, A, False)) == [
        f"{a}: Waiting",
        f"{a}: Retrying: the content was wrong",
        f"{a}: Download failed: no\\nanswer",
        f"Digest: {A}",
        "Status: Image is up to date for alpine:3.20",
    ]


def test_prints_no_line_a_chunk() -> None:
    events = (Started(A, 1000 * MIB, 0), *(Advanced(A, done * MIB) for done in range(1000)))

    assert plain(*events) == [f"{A.hex[:12]}: Downloading"]


def test_tells_json_as_it_is_documented() -> None:
    stream = io.StringIO()
    renderer = Json(stream, iter(range(1000)).__next__)
    for event in PULL:
        renderer(event)

    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert events[0] == {"event": "pulling", "reference": "docker.io/library/alpine:3.20"}
    started = {"event": "started", "digest": str(A), "size": 2 * MIB, "done": 0, "is_upload": False}
    assert events[3] == started
    assert events[-1] == {
        "event": "done", "reference": "docker.io/library/alpine:3.20", "digest": str(B), "is_new": True,
    }  # fmt: skip
    assert len(events) == len(PULL)


def test_tells_json_of_bytes_a_few_times_a_second() -> None:
    stream = io.StringIO()
    # Ten chunks a second, for ten seconds.
    renderer = Json(stream, (number / 10 for number in range(1000)).__next__)
    for done in range(100):
        renderer(Advanced(A, done))

    assert 30 <= len(stream.getvalue().splitlines()) <= 40


def test_documents_every_event_and_field() -> None:
    rows = {}
    for line in (ROOT / "docs" / "progress.md").read_text().splitlines():
        if line.startswith("| `") and "`event`" not in line:
            _, event, fields, *_ = line.split("|")
            rows[event.strip(" `")] = [name.strip(" `") for name in fields.split(",")]

    assert rows == {
        kind.__name__.lower(): [field.name for field in dataclasses.fields(kind)] for kind in kinds(Event)
    }


def kinds(base: type[Event]) -> Iterator[type[Event]]:
    for kind in base.__subclasses__():
        # By name: what `slots` makes a class of is a subclass too, until it is collected.
        if kind.__name__ != BlobEvent.__name__:
            yield kind
        yield from kinds(kind)


@pytest.mark.parametrize(
    ("events", "has_kept"),
    [
        pytest.param((), False, id="nothing"),
        pytest.param((Planned(A, 9), Started(A, 9, 0)), False, id="begun"),
        pytest.param((Finished(A, 9, "present"),), False, id="present"),
        pytest.param((Started(A, 9, 0), Advanced(A, 5)), True, id="some"),
        pytest.param((Started(A, 9, 5),), True, id="some-before"),
        pytest.param((Finished(A, 9, "fetched"),), True, id="all"),
    ],
)
def test_remembers_whether_something_is_kept(events: tuple[Event, ...], has_kept: bool) -> None:
    renderer = Silent()
    for event in events:
        renderer(event)

    assert renderer.has_kept is has_kept


@pytest.mark.parametrize(
    ("kind", "made"), [("plain", Plain), ("json", Json), ("none", Silent), ("rich", Rich)]
)
def test_shows_what_is_asked_for(kind: str, made: type[object]) -> None:
    assert type(make_renderer(kind)) is made


def test_shows_lines_where_nobody_looks_at_a_terminal() -> None:
    assert type(make_renderer("auto")) is Plain


@pytest.mark.parametrize("layers", [1, 6, 200])
@pytest.mark.parametrize(("width", "height"), [(200, 50), (80, 24), (60, 10), (40, 8), (20, 5), (10, 3)])
def test_fits_any_terminal(width: int, height: int, layers: int) -> None:
    board = Board(clock=iter(range(100_000)).__next__)
    source = random.Random(7)
    for number in range(layers):
        digest, size = Digest.of(str(number).encode()), source.randrange(1, 10**10)
        board.tell(Planned(digest, size))
        if number % 3:
            board.tell(Started(digest, size, 0))
            board.tell(Advanced(digest, size // 2))
        if number % 5 == 4:
            board.tell(Retried(digest, "host.example", "cut off " * 20, 1.0))

    lines = drawn(board, width, height)

    assert len(lines) <= height
    assert max(map(len, lines)) <= width


def test_shows_what_is_at_work_when_not_all_fits() -> None:
    board = Board(clock=iter(range(1000)).__next__)
    for number in range(100):
        board.tell(Planned(Digest.of(str(number).encode()), 100))
    busy = Digest.of(b"77")
    board.tell(Started(busy, 100, 0))
    board.tell(Advanced(busy, 50))

    lines = drawn(board, 100, 8)

    assert any(busy.hex[:12] in line and "Downloading" in line and "50B/100B" in line for line in lines)
    assert "+95 more" in lines[-1]
    assert "50B/10kB" in lines[-1]


def test_estimates_when_it_is_over() -> None:
    moments = iter([0.0, 1.0, 2.0, 2.0])
    board = Board(clock=lambda: next(moments, 2.0))
    board.tell(Started(A, 10_000_000, 0))
    for done in (1_000_000, 2_000_000, 3_000_000):
        board.tell(Advanced(A, done))

    # Three in two seconds, and seven are left.
    assert "1.5MB/s  0:05" in drawn(board, 100, 24)[-1]


def test_draws_bars_and_leaves_the_result() -> None:
    stream = io.StringIO()
    rich = Rich(Console(file=stream, force_terminal=True, width=100, height=24, color_system=None))
    for event in PULL:
        rich(event)
    rich.close()

    shown = stream.getvalue()
    assert "3.20: Pulling from library/alpine" in shown
    assert "Pull complete" in shown
    assert "\x1b[31m" not in shown
    assert shown.rstrip().endswith("Status: Downloaded newer image for alpine:3.20")


def drawn(board: Board, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=height, color_system=None)
    with console.capture() as capture:
        console.print(board.render(width, height))
    return [line.rstrip() for line in capture.get().split(os.linesep) if line.strip()]
