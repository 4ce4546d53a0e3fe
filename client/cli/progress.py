"""Progress on stderr: which way it is shown, and the two ways that are lines."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Protocol, TextIO

from client.cli.text import printable
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

# Of one blob's bytes a line of JSON tells so often.
_JSON_SECONDS = 0.25


class Renderer(Protocol):
    """Shows events, which come from several threads."""

    @property
    def has_kept(self) -> bool:
        """Whether the disk has something that the same command would go on with."""
        ...

    def __call__(self, event: Event) -> None: ...

    def close(self) -> None:
        """End the display, once or more often; what is printed next stands below it."""
        ...


class Silent:
    """Shows nothing, and remembers what was kept; the other renderers are this with words."""

    def __init__(self) -> None:
        self.has_kept = False
        self._lock = threading.RLock()
        # What goes to a registry is nothing that the disk keeps.
        self._sent: set[Digest] = set()

    def __call__(self, event: Event) -> None:
        with self._lock:
            match event:
                case Started(digest, is_upload=True):
                    self._sent.add(digest)
                case Started(digest, done=done) | Advanced(digest, done=done) if digest not in self._sent:
                    self.has_kept = self.has_kept or done > 0
                case Finished(how="fetched") | Unpacked():
                    self.has_kept = True
            self.show(event)

    def show(self, event: Event) -> None:
        pass

    def close(self) -> None:
        pass


class Plain(Silent):
    """One line where something begins or ends, in docker's words, which scripts look for."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._downloading: set[Digest] = set()

    def show(self, event: Event) -> None:
        for line in self._lines(event):
            print(printable(line), file=self._stream, flush=True)

    def _lines(self, event: Event) -> list[str]:
        match event:
            case Pulling(reference):
                return [f"{reference.tag or reference.digest}: Pulling from {reference.repository}"]
            case Done(reference, digest, is_new):
                status = "Downloaded newer image for" if is_new else "Image is up to date for"
                return [f"Digest: {digest}", f"Status: {status} {reference.familiar()}"]
            case BlobEvent(digest):
                return [f"{digest.hex[:12]}: {words}" for words in self._words(event)]
        return []

    def _words(self, event: BlobEvent) -> list[str]:
        match event:
            case Finished(how="fetched"):
                # The digest was computed while the bytes came; now it is compared.
                return ["Verifying Checksum", "Download complete"]
            case Finished(_, _, how):
                return [FINISHED[how]]
            case Retried(_, host, reason, seconds):
                return [f"Retrying in {seconds:.0f} seconds: {host}: {reason}"]
            case Restarted():
                return ["Retrying: the content was wrong"]
            case Failed(_, reason):
                return [f"Download failed: {reason}"]
            case Advanced(digest) if digest not in self._downloading:
                self._downloading.add(digest)
                return ["Pushing" if digest in self._sent else "Downloading"]
        words = _WORDS.get(type(event))
        return [words] if words else []


FINISHED = {
    "fetched": "Download complete",
    "present": "Already exists",
    "embedded": "Already exists",
    "pushed": "Pushed",
    "mounted": "Mounted",
}
_WORDS: dict[type[Event], str] = {
    Planned: "Pulling fs layer",
    Waiting: "Waiting",
    Unpacking: "Extracting",
    Unpacked: "Pull complete",
}


class Json(Silent):
    """One JSON object an event and line; docs/progress.md has their fields."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._stream = stream
        self._clock = clock
        self._told: dict[Digest, float] = {}

    def show(self, event: Event) -> None:
        if isinstance(event, Advanced):
            now = self._clock()
            if now - self._told.get(event.digest, -_JSON_SECONDS) < _JSON_SECONDS:
                return
            self._told[event.digest] = now
        print(json.dumps(event.to_json()), file=self._stream, flush=True)


def make_renderer(kind: str) -> Renderer:
    """Make what `--progress` asks for; `auto` is bars where somebody looks at a terminal."""
    if kind == "auto":
        kind = "rich" if _is_terminal() else "plain"
    match kind:
        case "rich":
            from client.cli.rich_progress import Rich

            return Rich()
        case "plain":
            return Plain(sys.stderr)
        case "json":
            return Json(sys.stderr)
    return Silent()


def _is_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
