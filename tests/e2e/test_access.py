"""Clients at a registry that asks who they are: over TLS with a certificate of its own making, and plain."""

import base64
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import pytest

from tests.e2e import clients
from tests.e2e.accounts import (
    Account,
    CargoholdAccount,
    CtrAccount,
    DockerAccount,
    Door,
    PodmanAccount,
    SkopeoAccount,
)
from tests.e2e.clients import CARGOHOLD
from tests.e2e.images import ImageCache
from tests.e2e.sandbox import CommandFailed, Sandbox, program, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

# docker believes any certificate of an address in 127.0.0.0/8, so this one is none of those. It looks for
# authorities in a directory of the machine, by host and port: two runs at once must not share a port.
ADDRESS = "198.51.100.7"
TLS, PLAIN = f"{ADDRESS}:{10_000 + os.getpid() % 50_000}", "127.0.0.1:5080"
PASSWORD = "a long password"
_DOCKERS_CERTIFICATES = Path("/etc/docker/certs.d")
_RULES = """\
auth = "local"

[[policy]]
who = "anonymous"
repository = "public/**"
allow = ["pull"]

[[policy]]
who = "user:alice"
repository = "**"
allow = ["pull", "push"]
"""
# Each starts a server of its own; what a password opens does not depend on how it came.
_OVER_TLS = pytest.mark.parametrize("guarded", ["tls"], indirect=True, scope="module")
# What each says of a 401 or 403.
_REFUSED = (
    "(?i)unauthorized|denied|authentication required|invalid username/password|authorization failed|40[13]"
)


@dataclass(frozen=True, slots=True)
class Guarded:
    """A running registry, and its log."""

    door: Door
    log: Path
    process: "subprocess.Popen[bytes]"

    def await_line(self, **expected: object) -> None:
        """Wait until the log has such a line; they are gathered for a moment before they are written."""

        def is_there() -> bool:
            lines = (json.loads(line) for line in self.log.read_text().splitlines() if line[:1] == "{")
            return any(expected.items() <= line.items() for line in lines)

        wait_until(is_there, self.process, self.log)


@pytest.fixture(scope="module", params=["tls", "plain"])
def guarded(
    request: pytest.FixtureRequest, lab: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    directory = tmp_path_factory.mktemp("guarded")
    speaks_tls = request.param == "tls"
    with _serving(lab, directory, TLS if speaks_tls else PLAIN, speaks_tls) as running:
        if not speaks_tls:
            yield running
            return
        with _trusted_by_docker(running.door):
            yield running


@contextmanager
def _serving(lab: Sandbox, directory: Path, host: str, speaks_tls: bool) -> Iterator[Guarded]:
    address, _, port = host.partition(":")
    configuration = directory / "cargohold.toml"
    configuration.write_text(_configuration(directory, host if speaks_tls else ""))
    command = [str(CARGOHOLD), "serve", "--config", str(configuration), "--host", address, "--port", port]
    if speaks_tls:
        lab.run("ip", "address", "replace", f"{address}/32", "dev", "lo")
    log = directory / "log"
    with lab.running(*command, log=log, environment=_measured()) as process:
        wait_until(lambda: lab.call(lambda: _answers(address, int(port))), process, log)
        yield Guarded(Door(host, _certificates(directory, host) if speaks_tls else None), log, process)


def _configuration(directory: Path, tls_host: str) -> str:
    stored = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)).decode()
    htpasswd = directory / "htpasswd"
    htpasswd.write_text("".join(f"{name}:{stored}\n" for name in ("alice", "bob")))
    lines = [f'data = "{directory / "data"}"', f'htpasswd = "{htpasswd}"']
    if tls_host:
        lines += ["tls_self_signed = true", f'external_url = "https://{tls_host}"']
    return "\n".join([*lines, _RULES])


def _measured() -> dict[str, str]:
    """Let coverage measure the server too: it finds its configuration in the environment."""
    return {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}


def _answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=10).close()
    except OSError:
        return False
    return True


def _certificates(directory: Path, host: str) -> Path:
    """Do what the server prints at its first start, in a directory for its clients."""
    certificates = directory / "certs.d" / host
    certificates.mkdir(parents=True)
    shutil.copy(directory / "data/tls/certificate.pem", certificates / "ca.crt")
    (certificates / "hosts.toml").write_text(f'[host."https://{host}"]\n  ca = "ca.crt"\n')
    return certificates


@contextmanager
def _trusted_by_docker(door: Door) -> Iterator[None]:
    """Put the certificate where docker looks, which no option changes."""
    assert door.certificates is not None
    target = _DOCKERS_CERTIFICATES / door.host
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(door.certificates / "ca.crt", target)
    try:
        yield
    finally:
        shutil.rmtree(target)


@pytest.fixture(params=["cargohold", "skopeo", "podman", "buildah", "docker", "ctr"])
def account(request: pytest.FixtureRequest, lab: Sandbox, workshop: Path, guarded: Guarded) -> Account:
    """Each client in turn, with a home in which nobody logged in yet."""
    door = guarded.door
    if request.param == "cargohold":
        return CargoholdAccount(clients.Cargohold(lab, workshop), door)
    program(request.param)
    match request.param:
        case "skopeo":
            return SkopeoAccount(clients.Skopeo(lab, workshop), door)
        case "podman":
            return PodmanAccount(clients.Podman(lab, workshop), door)
        case "buildah":
            return PodmanAccount(clients.Buildah(lab, workshop), door)
        case "docker":
            daemon = request.getfixturevalue("dockerd")
            return DockerAccount(clients.Docker(lab, workshop, daemon), door)
        case _:
            return CtrAccount(clients.Ctr(lab, workshop, request.getfixturevalue("containerd")), door)


def test_tok_04_logs_in_pushes_pulls_mounts_and_logs_out(
    account: Account, guarded: Guarded, repository: str, images: ImageCache
) -> None:
    account.login("alice", PASSWORD)
    account.push(images.busybox(), repository)
    account.pull(repository)
    account.push_again(repository, f"{repository}/copy")

    # A POST that is answered by 201 is a mount; every other upload's is 202.
    path = f"/v2/{repository}/copy/blobs/uploads/"
    guarded.await_line(method="POST", path=path, user="alice", status=201)
    account.logout()
    assert not account.stored()
    with pytest.raises(CommandFailed, match=_REFUSED):
        account.pull(repository)


@_OVER_TLS
def test_auth_05_is_refused_what_it_has_no_rights_to(
    account: Account, repository: str, images: ImageCache
) -> None:
    public, elsewhere = f"public/{repository}", f"public/{repository}/elsewhere"
    account.login("alice", PASSWORD)
    account.push(images.busybox(), repository)
    account.push(images.busybox(), public)
    account.logout()

    account.pull(public)
    with pytest.raises(CommandFailed, match=_REFUSED):
        account.push_again(public, elsewhere)
    account.login("bob", PASSWORD)
    account.pull(public)
    with pytest.raises(CommandFailed, match=_REFUSED):
        account.push_again(public, elsewhere)
    with pytest.raises(CommandFailed, match=_REFUSED):
        account.pull(repository)


@_OVER_TLS
def test_auth_02_is_told_that_a_password_is_wrong(account: Account, repository: str) -> None:
    if account.can_log_in:
        with pytest.raises(CommandFailed, match=_REFUSED):
            account.login("alice", "wrong")
        assert not account.stored()
    else:
        account.login("alice", "wrong")
        with pytest.raises(CommandFailed, match=_REFUSED):
            account.pull(repository)


@_OVER_TLS
@pytest.mark.parametrize("account", ["cargohold", "docker"], indirect=True)
def test_tok_03_keeps_a_token_in_place_of_the_password(
    account: Account, guarded: Guarded, repository: str, images: ImageCache
) -> None:
    account.login("alice", PASSWORD)

    stored = account.stored()
    assert stored["identitytoken"]
    assert PASSWORD not in base64.b64decode(stored["auth"]).decode()
    account.push(images.busybox(), repository)
    account.pull(repository)
    pull = f"repository:{repository}:pull"
    guarded.await_line(audit="token.issue", user="alice", grant="refresh_token", scopes=[pull])
