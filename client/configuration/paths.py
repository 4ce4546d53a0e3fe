"""Where each program keeps its files, for this user and environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Paths:
    """A home, an environment and a root: tests give their own."""

    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    etc: Path = Path("/etc")

    @property
    def home(self) -> Path:
        return Path(self.environment.get("HOME") or "~").expanduser()

    @property
    def config(self) -> Path:
        return Path(self.environment.get("XDG_CONFIG_HOME") or self.home / ".config")

    @property
    def docker_config(self) -> Path:
        return Path(self.environment.get("DOCKER_CONFIG") or self.home / ".docker") / "config.json"

    @property
    def auth_files(self) -> tuple[Path, ...]:
        """In the order in which they are asked; docker's before podman's, for `cargohold login` writes it."""
        chosen = self.environment.get("REGISTRY_AUTH_FILE")
        runtime = self.environment.get("XDG_RUNTIME_DIR")
        found = [Path(chosen)] if chosen else []
        found.append(self.docker_config)
        if runtime:
            found.append(Path(runtime) / "containers" / "auth.json")
        return (*found, self.config / "containers" / "auth.json", self.home / ".dockercfg")

    @property
    def registries(self) -> tuple[Path, ...]:
        """podman's registries.conf and what is added to it; of the two main files the user's stands alone."""
        chosen = self.environment.get("CONTAINERS_REGISTRIES_CONF")
        if chosen:
            return (Path(chosen),)
        user, system = self.config / "containers", self.etc / "containers"
        main = user if os.path.exists(user / "registries.conf") else system
        added = [
            *sorted((system / "registries.conf.d").glob("*.conf")),
            *sorted((user / "registries.conf.d").glob("*.conf")),
        ]
        return (main / "registries.conf", *added)

    @property
    def certificates(self) -> tuple[Path, ...]:
        """The certs.d directories of podman and docker; the first that knows a host decides."""
        return (
            self.config / "containers" / "certs.d",
            self.etc / "containers" / "certs.d",
            self.etc / "docker" / "certs.d",
        )

    @property
    def containerd(self) -> Path:
        return self.etc / "containerd" / "certs.d"

    @property
    def docker_daemon(self) -> tuple[Path, ...]:
        """dockerd's configuration, a rootless one's first."""
        return (self.config / "docker" / "daemon.json", self.etc / "docker" / "daemon.json")
