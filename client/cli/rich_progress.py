"""Progress as bars on a terminal: a line a layer as far as there is room, and one for all of them."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from client.cli import text
from client.cli.progress import FINISHED, Silent
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

_REFRESHES_PER_SECOND = 10
# Rates are those of the last seconds: what was fast a minute ago says nothing about the end.
_RATE_SECONDS = 5.0
# Lines that other output keeps.
_MARGIN_LINES = 3
# Columns of the cells, each with a space; a terminal that is narrower lacks the last ones.
_NAME, _STATUS, _BYTES, _PACE = 13, 18, 16, 19
_BAR, _LONGEST_BAR = 10, 40
# What a person wants to see first, when not all layers fit.
_URGENCY = ("Failed", "Retrying", "Downloading", "Pushing", "Extracting", "Waiting", "Pulling fs layer")


@dataclass(slots=True)
class Layer:
    """A line: what happens to one blob, and how far it is."""

    status: str = "Pulling fs layer"
    moving: str = "Downloading"
    size: int = 0
    done: int = 0


class Rate:
    """Bytes a second over the last few seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._moments: deque[tuple[float, int]] = deque()

    def add(self, count: int) -> None:
        self._moments.append((self._clock(), count))

    def __call__(self) -> float:
        now = self._clock()
        while self._moments and self._moments[0][0] < now - _RATE_SECONDS:
            self._moments.popleft()
        if not self._moments:
            return 0.0
        return sum(count for _, count in self._moments) / max(now - self._moments[0][0], 1.0)


class Board:
    """What is shown: all layers, and the bytes of all together."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._layers: dict[Digest, Layer] = {}
        self._rate = Rate(clock)
        self._note = ""

    def tell(self, event: Event) -> None:
        with self._lock:
            if isinstance(event, BlobEvent):
                self._tell_layer(self._layers.setdefault(event.digest, Layer()), event)

    def _tell_layer(self, layer: Layer, event: BlobEvent) -> None:
        match event:
            case Planned(size=size):
                layer.size = size
            case Waiting():
                layer.status = "Waiting"
            case Started(size=size, done=done, is_upload=is_upload):
                layer.moving = "Pushing" if is_upload else "Downloading"
                layer.status, layer.size, layer.done = layer.moving, size, done
            case Advanced(done=done):
                self._rate.add(max(done - layer.done, 0))
                if layer.status == "Retrying":
                    self._note = ""
                layer.status, layer.done = layer.moving, done
            case Retried(host=host, reason=reason):
                layer.status, self._note = "Retrying", f"{host}: {reason}"
            case Restarted():
                layer.status, layer.done = "Retrying", 0
            case Finished(size=size, how=how):
                layer.status = FINISHED[how]
                layer.size = layer.done = size
            case Unpacking():
                layer.status = "Extracting"
            case Unpacked():
                layer.status = "Pull complete"
            case Failed(reason=reason):
                layer.status, self._note = "Failed", reason

    def render(self, width: int, height: int) -> RenderableType:
        """Draw as many layers as fit beside the total, those at work first, in their own order."""
        with self._lock:
            shown = self._fitting(max(height - _MARGIN_LINES, 1))
            table = _grid(width)
            room = len(table.columns)
            for digest, layer in shown:
                table.add_row(*self._row(digest.hex[:12], layer)[:room])
            table.add_row(*self._total(len(self._layers) - len(shown))[:room])
            note = Text(text.printable(self._note), "dim", no_wrap=True, overflow="ellipsis")
            return Group(table, note) if self._note else table

    def _fitting(self, room: int) -> list[tuple[Digest, Layer]]:
        layers = list(self._layers.items())
        if len(layers) <= room:
            return layers
        order = {status: number for number, status in enumerate(_URGENCY)}
        urgent = sorted(layers, key=lambda item: order.get(item[1].status, len(order)))[:room]
        kept = {digest for digest, _ in urgent}
        return [item for item in layers if item[0] in kept]

    def _row(self, name: str, layer: Layer) -> list[RenderableType]:
        is_moving = layer.status in ("Downloading", "Pushing", "Retrying")
        bar = ProgressBar(total=layer.size or 1, completed=layer.done) if is_moving else ""
        return [name, layer.status, _bytes(layer.done, layer.size), "", bar]

    def _total(self, hidden: int) -> list[RenderableType]:
        size = sum(layer.size for layer in self._layers.values())
        done = sum(layer.done for layer in self._layers.values())
        ready = sum(layer.size <= layer.done for layer in self._layers.values())
        rate = self._rate() if done < size else 0.0
        return [
            f"+{hidden} more" if hidden else "total",
            f"{ready}/{len(self._layers)} blobs",
            _bytes(done, size),
            f"{text.size(rate)}/s  {_left(size - done, rate)}" if rate else "",
            ProgressBar(total=size or 1, completed=done) if done < size else "",
        ]


def _grid(width: int) -> Table:
    """Make a table of as many of the five columns as fit, whose widths do not change."""
    table = Table.grid(padding=(0, 1, 0, 0))
    left = width
    for cell in (_NAME, _STATUS, _BYTES, _PACE):
        if left <= cell and table.columns:
            return table
        left -= cell
        table.add_column(width=cell - 1, no_wrap=True, justify="right" if cell == _BYTES else "left")
    if left > _BAR:
        table.add_column(width=min(left - 1, _LONGEST_BAR))
    return table


class Rich(Silent):
    """Draws the board while something happens; what it showed last stays."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self._console = console or Console(stderr=True, highlight=False)
        self._board = Board()
        self._live: Live | None = None

    def show(self, event: Event) -> None:
        self._board.tell(event)
        match event:
            case Pulling(reference):
                self._say(f"{reference.tag or reference.digest}: Pulling from {reference.repository}")
            case Done(reference, digest, is_new):
                self.close()
                self._say(f"Digest: {digest}")
                status = "Downloaded newer image for" if is_new else "Image is up to date for"
                self._say(f"Status: {status} {reference.familiar()}")
            case BlobEvent() if self._live is None:
                self._live = self._start()

    def close(self) -> None:
        with self._lock:
            if self._live is not None:
                self._live.stop()
                self._live, self._board = None, Board()

    def _say(self, line: str) -> None:
        self._console.print(Text(text.printable(line)), soft_wrap=True)

    def _start(self) -> Live:
        console, board = self._console, self._board
        live = Live(
            get_renderable=lambda: board.render(*console.size),
            console=console,
            refresh_per_second=_REFRESHES_PER_SECOND,
            redirect_stdout=False,  # results go there, and only there
        )
        live.start()
        return live


def _bytes(done: int, size: int) -> str:
    if done == size:
        return text.size(size)
    return f"{text.size(done)}/{text.size(size)}"


def _left(count: int, rate: float) -> str:
    minutes, seconds = divmod(round(count / rate), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
