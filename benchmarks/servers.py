"""The servers that are compared, and what they cost: CPU seconds and memory of a whole process tree."""

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")

_DOCKER_REGISTRY_CONFIGURATION = """\
version: 0.1
storage:
  filesystem: {{rootdirectory: {data}}}
  delete: {{enabled: true}}
  maintenance: {{uploadpurging: {{enabled: false}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@dataclass(frozen=True, slots=True, eq=False)
class Server:
    """A running registry on 127.0.0.1."""

    name: str
    port: int
    process: "subprocess.Popen[bytes]"

    def cpu_seconds(self) -> float:
        """Read the CPU time that the server's processes have used so far."""
        ticks = 0
        for pid in self.pids():
            fields = _stat(pid)
            # utime, stime, and both of the children that have ended.
            ticks += sum(int(field) for field in fields[11:15])
        return ticks / _TICKS_A_SECOND

    def worker_pids(self) -> list[int]:
        """List the processes that serve: the children, or the process itself when it has none that do."""
        children = [pid for pid in self.pids()[1:] if _is_worker(pid)]
        return children or [self.process.pid]

    def pids(self) -> list[int]:
        """List the server's process and all below it."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):  # It ended meanwhile.
                    children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
        found = [self.process.pid]
        for pid in found:
            found += children.get(pid, [])
        return found


def resident_bytes(pid: int) -> int:
    """Read the resident set size of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def program(name: str) -> str:
    """Find a program of Debian's, or end with its name."""
    found = shutil.which(name, path=_SEARCH_PATH)
    if found is None:
        raise SystemExit(f"error: {name} is not installed (run tests/e2e/install.sh as root)")
    return found


@contextlib.contextmanager
def cargohold(data: Path, *options: str, workers: int) -> Iterator[Server]:
    """Run the server of this project on a data directory of its own, its log in /dev/null."""
    port = _free_port()
    command = [
        str(Path(sys.executable).with_name("cargohold")), "serve", "--host", "127.0.0.1",
        "--port", str(port), "--data", str(data), "--workers", str(workers), *options,
    ]  # fmt: skip
    with _running(f"cargohold, {workers} worker{'s' * (workers > 1)}", port, command) as server:
        yield server


@contextlib.contextmanager
def docker_registry(data: Path) -> Iterator[Server]:
    """Run Debian's docker-registry with its default access log, in /dev/null."""
    port = _free_port()
    data.mkdir(parents=True)
    configuration = data / "registry.yml"
    configuration.write_text(_DOCKER_REGISTRY_CONFIGURATION.format(data=data / "registry", port=port))
    command = [program("docker-registry"), "serve", str(configuration)]
    with _running("docker-registry", port, command) as server:
        yield server


@contextlib.contextmanager
def _running(name: str, port: int, command: list[str]) -> Iterator[Server]:
    # docker-registry reads REGISTRY_* and AWS_* of the machine as settings, and ours CARGOHOLD_*.
    environment = {"PATH": _SEARCH_PATH, "LANG": "C.UTF-8", "OTEL_TRACES_EXPORTER": "none"}
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = Server(name, port, process)
    try:
        _wait_until_ready(server)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            with contextlib.closing(connection):
                connection.request("GET", "/v2/")
                if connection.getresponse().status in (200, 401):
                    return
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"error: {server.name} does not answer: {server.process.args!r}")
        time.sleep(0.05)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _stat(pid: int) -> list[str]:
    """Read the fields of /proc/PID/stat from the state on, which is the third."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _is_worker(pid: int) -> bool:
    # multiprocessing starts a process of its own to keep count of semaphores.
    return b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()
