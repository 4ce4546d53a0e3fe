"""Clients that log in: how each says who it is, and whom it trusts, with a home of its own."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from tests.e2e import clients
from tests.e2e.images import Image


@dataclass(frozen=True, slots=True)
class Door:
    """A registry that wants to know who comes.

    `certificates` is a directory with the authority of its certificate as `ca.crt`, and a `hosts.toml`; None
    for plain HTTP.
    """

    host: str
    certificates: Path | None


class Account(Protocol):
    """A client at a door. Every method raises CommandFailed when its program does."""

    can_log_in: ClassVar[bool]

    def login(self, user: str, password: str) -> None: ...

    def logout(self) -> None: ...

    def stored(self) -> Mapping[str, Any]:
        """Return what the login left in the home for the registry."""
        ...

    def push(self, image: Image, repository: str) -> None: ...

    def pull(self, repository: str) -> None:
        """Pull, from the registry and not from what is here."""
        ...

    def push_again(self, repository: str, target: str) -> None:
        """Push what was pulled from a repository to another."""
        ...


def _stored(file: Path, host: str) -> Mapping[str, Any]:
    if not file.exists():
        return {}
    auths: Mapping[str, Mapping[str, Any]] = json.loads(file.read_text()).get("auths", {})
    return auths.get(host, {})


@dataclass(slots=True)
class CargoholdAccount:
    """Our own client."""

    can_log_in: ClassVar[bool] = True
    program: clients.Cargohold
    door: Door

    def login(self, user: str, password: str) -> None:
        self._run("login", "--username", user, "--password", password, self.door.host)

    def logout(self) -> None:
        self.program.run("logout", self.door.host)

    def stored(self) -> Mapping[str, Any]:
        return _stored(self.program.directory / ".docker/config.json", self.door.host)

    def push(self, image: Image, repository: str) -> None:
        self._run("push", "--quiet", self.program.load(image), self._name(repository))

    def pull(self, repository: str) -> None:
        self.program.empty()
        self._run("pull", "--quiet", self._name(repository))

    def push_again(self, repository: str, target: str) -> None:
        self._run("push", "--quiet", self._name(repository), self._name(target))

    def _name(self, repository: str) -> str:
        return f"{self.door.host}/{repository}:v1"

    def _run(self, verb: str, *arguments: str) -> None:
        trust = self.door.certificates
        how = ["--ca-file", str(trust / "ca.crt")] if trust else ["--plain-http"]
        self.program.run(verb, *how, *arguments)


@dataclass(slots=True)
class SkopeoAccount:
    """skopeo, whose store is a directory."""

    can_log_in: ClassVar[bool] = True
    program: clients.Skopeo
    door: Door

    def login(self, user: str, password: str) -> None:
        self.program.run("login", *self._account(), "-u", user, "-p", password, self.door.host)

    def logout(self) -> None:
        self.program.run("logout", "--authfile", str(self._authfile), self.door.host)

    def stored(self) -> Mapping[str, Any]:
        return _stored(self._authfile, self.door.host)

    def push(self, image: Image, repository: str) -> None:
        self.program.run("copy", *self._account("dest-"), image.reference, self._name(repository))

    def pull(self, repository: str) -> None:
        target = self.program.directory / "pulled"
        self.program.run("copy", *self._account("src-"), self._name(repository), f"dir:{target}")

    def push_again(self, repository: str, target: str) -> None:
        both = (*self._account("src-"), *self._account("dest-"))
        self.program.run("copy", *both, self._name(repository), self._name(target))

    @property
    def _authfile(self) -> Path:
        return self.program.directory / "auth.json"

    def _name(self, repository: str) -> str:
        return f"docker://{self.door.host}/{repository}:v1"

    def _account(self, side: str = "") -> tuple[str, ...]:
        return (f"--{side}authfile", str(self._authfile), *_trust(self.door, side))


def _trust(door: Door, side: str = "") -> tuple[str, ...]:
    """Write the options of skopeo, podman and buildah."""
    if door.certificates is None:
        return (f"--{side}tls-verify=false",)
    return (f"--{side}cert-dir", str(door.certificates))


@dataclass(slots=True)
class PodmanAccount:
    """podman, or buildah, whose commands here are the same."""

    can_log_in: ClassVar[bool] = True
    program: clients.Podman
    door: Door

    def login(self, user: str, password: str) -> None:
        self._run("login", "-u", user, "-p", password, self.door.host)

    def logout(self) -> None:
        self.program.run("logout", "--authfile", str(self._authfile), self.door.host)

    def stored(self) -> Mapping[str, Any]:
        return _stored(self._authfile, self.door.host)

    def push(self, image: Image, repository: str) -> None:
        self._run("push", "--quiet", self.program.load(image), self._name(repository))

    def pull(self, repository: str) -> None:
        self.program.empty()
        self._run("pull", "--quiet", self._name(repository))

    def push_again(self, repository: str, target: str) -> None:
        image = self._name(repository).removeprefix("docker://")
        self._run("push", "--quiet", image, self._name(target))

    @property
    def _authfile(self) -> Path:
        return self.program.directory / "auth.json"

    def _name(self, repository: str) -> str:
        return f"docker://{self.door.host}/{repository}:v1"

    def _run(self, verb: str, *arguments: str) -> None:
        self.program.run(verb, "--authfile", str(self._authfile), *_trust(self.door), *arguments)


@dataclass(slots=True)
class DockerAccount:
    """docker; its daemon finds the certificate in /etc/docker/certs.d alone."""

    can_log_in: ClassVar[bool] = True
    program: clients.Docker
    door: Door

    def login(self, user: str, password: str) -> None:
        self._run("login", "-u", user, "-p", password, self.door.host)

    def logout(self) -> None:
        self._run("logout", self.door.host)

    def stored(self) -> Mapping[str, Any]:
        return _stored(self.program.directory / "docker/config.json", self.door.host)

    def push(self, image: Image, repository: str) -> None:
        self._run("tag", self.program.load(image), self._name(repository))
        self._run("push", self._name(repository))

    def pull(self, repository: str) -> None:
        self.program.empty()
        self._run("pull", "--quiet", self._name(repository))

    def push_again(self, repository: str, target: str) -> None:
        self._run("tag", self._name(repository), self._name(target))
        self._run("push", self._name(target))

    def _name(self, repository: str) -> str:
        return f"{self.door.host}/{repository}:v1"

    def _run(self, *arguments: str) -> None:
        self.program.run("--config", str(self.program.directory / "docker"), *arguments)


@dataclass(slots=True)
class CtrAccount:
    """ctr, which keeps no login: it says with each command who it is."""

    can_log_in: ClassVar[bool] = False
    program: clients.Ctr
    door: Door
    user: tuple[str, ...] = ()

    def login(self, user: str, password: str) -> None:
        self.user = ("--user", f"{user}:{password}")

    def logout(self) -> None:
        self.user = ()

    def stored(self) -> Mapping[str, Any]:
        return {}

    def push(self, image: Image, repository: str) -> None:
        self._run("push", self._name(repository), self.program.load(image))

    def pull(self, repository: str) -> None:
        self.program.empty()
        self._run("pull", "--snapshotter", "native", self._name(repository))

    def push_again(self, repository: str, target: str) -> None:
        self._run("push", self._name(target), self._name(repository))

    def _name(self, repository: str) -> str:
        return f"{self.door.host}/{repository}:v1"

    def _run(self, verb: str, *arguments: str) -> None:
        trust = self.door.certificates
        how = ["--hosts-dir", str(trust.parent)] if trust else ["--plain-http"]
        self.program.run("images", verb, *how, *self.user, *arguments)
