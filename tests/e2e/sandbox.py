"""A network namespace of the tests' own: servers and clients run in it, and nothing can leave."""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

Result = TypeVar("Result")

# Debian's programs before any other of the same name: their behaviour is what the tests know.
SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"
_CLONE_NEWNET = 0x40000000
# skopeo, podman and buildah share this directory as root, whatever their storage options say. What one of
# them remembers there about a blob changes what another sends, so each client sees a directory of its own.
_BLOB_INFO_CACHE = "/var/lib/containers/cache"


class CommandFailed(Exception):
    """A program that ended with an exit code other than 0; the message holds all that it printed."""


def program(name: str) -> str:
    """Find a Debian program, or skip the test that needs it."""
    found = shutil.which(name, path=SEARCH_PATH)
    if found is None:
        pytest.skip(f"LEFT OUT: {name} is not installed (run tests/e2e/install.sh as root)")
    return found


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended, and what it said."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A network namespace with nothing but its loopback, and the directory for its programs' state."""

    namespace: str
    directory: Path
    _inside: ThreadPoolExecutor

    def run(
        self, *arguments: str, cache: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> str:
        """Run a program to its end in the namespace and return its standard output.

        Raises CommandFailed when its exit code is not 0. `cache` stands in for the blob info cache.
        """
        ended = self.end(*arguments, cache=cache, environment=environment)
        if ended.code != 0:
            raise CommandFailed(f"{arguments}: exit code {ended.code}\n{ended.err}\n{ended.out}")
        return ended.out

    def end(
        self,
        *arguments: str,
        cache: Path | None = None,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> Ended:
        """Run a program to its end, whatever that is."""
        done = subprocess.run(
            self._command(arguments, cache),
            env=self._environment(environment),
            cwd=directory or self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    @contextlib.contextmanager
    def running(
        self, *arguments: str, log: Path, environment: Mapping[str, str] | None = None
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a server in the namespace while the block lasts; it dies with the tests, however they end."""
        with log.open("wb") as output:
            process = subprocess.Popen(
                [program("setpriv"), "--pdeathsig", "TERM", *self._command(arguments, None)],
                env=self._environment(environment),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            yield process
        finally:
            _end(process)

    def call(self, function: Callable[[], Result]) -> Result:
        """Call a function in a thread inside the namespace; the sockets that it opens belong there."""
        return self._inside.submit(function).result()

    def submit(self, function: Callable[[], None]) -> None:
        """Start a function in a thread inside the namespace and do not wait for it."""
        self._inside.submit(function)

    def _command(self, arguments: tuple[str, ...], cache: Path | None) -> list[str]:
        command = [program("nsenter"), f"--net=/run/netns/{self.namespace}"]
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)
            mount = f'mount --bind "$0" {_BLOB_INFO_CACHE} && exec "$@"'
            command += [program("unshare"), "-m", "--propagation", "slave", "sh", "-c", mount, str(cache)]
        return [*command, *arguments]

    def _environment(self, extra: Mapping[str, str] | None) -> dict[str, str]:
        """Make an environment in which no variable of the machine configures a client."""
        home = self.directory / "home"
        (home / ".docker").mkdir(parents=True, exist_ok=True)
        # podman fails on a DOCKER_CONFIG without this file.
        (home / ".docker/config.json").write_text("{}")
        registries = home / "registries.conf"
        registries.write_text("unqualified-search-registries = []\n")
        return {
            "PATH": SEARCH_PATH,
            "LANG": "C.UTF-8",
            "HOME": str(home),
            "TMPDIR": str(self.directory),
            "DOCKER_CONFIG": str(home / ".docker"),
            "CONTAINERS_REGISTRIES_CONF": str(registries),
            **(extra or {}),
        }


@contextlib.contextmanager
def create(directory: Path) -> Iterator[Sandbox]:
    """Create the namespace while the block lasts, or skip when this user may not."""
    if os.geteuid() != 0:
        pytest.skip("LEFT OUT: a network namespace of the tests' own needs root")
    ip = program("ip")
    Path(_BLOB_INFO_CACHE).mkdir(parents=True, exist_ok=True)
    namespace = f"cargohold-e2e-{os.getpid()}"
    subprocess.run([ip, "netns", "add", namespace], check=True)
    try:
        subprocess.run([ip, "-n", namespace, "link", "set", "lo", "up"], check=True)
        with ThreadPoolExecutor(initializer=_enter, initargs=(namespace,)) as inside:
            yield Sandbox(namespace, directory, inside)
    finally:
        subprocess.run([ip, "netns", "del", namespace], check=True)


def wait_until(ready: Callable[[], bool], process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until a server answers; fail with its log when it ends first or takes 30 s."""
    deadline = time.monotonic() + 30
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_text(errors="replace")[-4000:]
            pytest.fail(f"{process.args!r} does not answer, exit code {process.poll()}:\n{said}")
        time.sleep(0.05)


def _enter(namespace: str) -> None:
    # os.setns came with Python 3.12. The call moves only the thread that makes it, and those it starts.
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}", "rb") as file:
        if libc.setns(file.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
