"""How a test runs the program, and what it looks at."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tests.client.homes import Home

PROGRAM = Path(sys.executable).with_name("cargohold")


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def errors(self) -> list[str]:
        return self.err.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Cargohold:
    """The program, for a user with a home; `program` may be another one of the same frame."""

    def __init__(self, home: Home, *program: object) -> None:
        self.home = home
        self._program = [str(each) for each in program or (PROGRAM,)]
        # The machine's own configuration is not the test's.
        self.registries = home.write("registries.conf", "")
        self.environment = {
            **home.environment,
            "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            "CARGOHOLD_STORE": str(home.directory / "store"),
            "CONTAINERS_REGISTRIES_CONF": str(self.registries),
            **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE")},
        }

    def run(self, *arguments: object, given: str = "", **environment: str) -> Ended:
        done = subprocess.run(
            [*self._program, *map(str, arguments)],
            input=given.encode(),
            capture_output=True,
            env={**self.environment, **environment},
            check=False,
        )
        return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())

    @contextmanager
    def started(self, *arguments: object, stdout: int | IO[bytes] | None = None) -> Iterator["Started"]:
        """Start it, to be signalled; it is dead at the end."""
        process = subprocess.Popen(
            [*self._program, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=stdout or subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
        )
        with process:
            try:
                yield Started(process)
            finally:
                process.kill()

    def terminal(self, *arguments: object) -> "Terminal":
        """Start it as the program of a terminal."""
        return Terminal([*self._program, *map(str, arguments)], self.environment)


@dataclass(frozen=True)
class Started:
    process: subprocess.Popen[bytes]

    def wait_for(self, line: bytes) -> None:
        """Read stderr up to a line with this in it."""
        assert self.process.stderr is not None
        assert any(line in each for each in self.process.stderr), f"{line!r} was not said"

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, bytes]:
        """Wait for the end; return the exit code and the rest of stderr."""
        assert self.process.stderr is not None
        rest = self.process.stderr.read()
        return self.process.wait(), rest


class Terminal:
    """A program whose standard streams are a terminal of 80 by 24."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            # As a terminal starts programs, also where the tests run in the background and ignore it.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.execvpe(command[0], command, {**environment, "TERM": "xterm"})
        self.shown = ""

    def wait_for(self, text: str) -> None:
        """Read until the text has been shown. Fails when nothing more comes."""
        while text not in self.shown:
            assert self._read(), f"{text!r} is not in {self.shown!r}"

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C until the program ends: Python misses one between its last look and its read.

        A second one while it ends would be another matter, so there is time for that.
        """
        self.type("\x03")
        while not self._is_over(10):
            self.type("\x03")

    def _is_over(self, patience_seconds: float) -> bool:
        """Read until nothing comes for so long, or until the end."""
        while select.select([self._fd], [], [], patience_seconds)[0]:
            if not self._read():
                return True
        return False

    def end(self) -> int:
        """Read to the end; return the exit code."""
        while self._read():
            pass
        # Closing first would hang up on a program that is just about to end.
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        os.close(self._fd)
        return code

    def _read(self, patience_seconds: float = 30) -> bool:
        if not select.select([self._fd], [], [], patience_seconds)[0]:
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # what Linux says when the other side has closed
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)
