"""The programs that people push and pull with, each with a store of its own behind one small interface."""

import contextlib
import itertools
import json
import re
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Protocol

from tests.e2e.contents import Contents, of_archive, of_blobs
from tests.e2e.images import Image, child_of_this_machine, json_object
from tests.e2e.sandbox import Sandbox, program, wait_until

CARGOHOLD = Path(sys.executable).with_name("cargohold")


@dataclass(frozen=True, slots=True)
class Pulled:
    """An image that a client has pulled: its name in the client's store, and what the store holds."""

    name: str
    contents: Contents


class Client(Protocol):
    """A program that pushes and pulls images; targets and sources are `host/repository:tag`."""

    unpacks_zstd: ClassVar[bool]

    def load(self, image: Image) -> str:
        """Bring an image into the client's store without a registry and return its name there."""
        ...

    def push(self, name: str, target: str) -> str:
        """Push an image of the store and return the digest of the manifest that was sent."""
        ...

    def pull(self, source: str) -> Pulled:
        """Pull an image into an emptied store, with an empty memory of blobs."""
        ...


@dataclass(slots=True)
class Cargohold:
    """This project's client; an emptied store is a new one."""

    unpacks_zstd: ClassVar[bool] = True
    sandbox: Sandbox
    directory: Path
    _stores: Iterator[int] = field(default_factory=itertools.count)
    store: Path = field(init=False)

    def __post_init__(self) -> None:
        self.empty()

    def run(self, *arguments: str) -> str:
        """Run a verb on the present store."""
        command = [str(CARGOHOLD), "--store", str(self.store), *arguments]
        # A home without settings, and without the logins of others.
        home = {"HOME": str(self.directory), "DOCKER_CONFIG": str(self.directory / ".docker")}
        # Without coverage, which would double the time of a verb: the tests beside the code measure it.
        return self.sandbox.run(*command, environment=home)

    def load(self, image: Image) -> str:
        said = self.run("load", "--input", str(image.layout))
        assert said == f"Loaded image ID: {image.digest}\n"
        return image.digest

    def push(self, name: str, target: str) -> str:
        return self.run("push", "--quiet", name, target).strip()

    def pull(self, source: str) -> Pulled:
        self.empty()
        assert self.run("pull", "--quiet", source) == f"{source}\n"
        return Pulled(source, self.contents())

    def contents(self) -> Contents:
        """Compute the digests of the only image in the store."""
        (held,) = json_object((self.store / "index.json").read_bytes())["manifests"]
        manifest = self._blob(held["digest"]).read_bytes()
        if "manifests" in json_object(manifest):
            manifest = self._blob(child_of_this_machine(manifest)).read_bytes()
        return of_blobs(manifest, lambda digest: self._blob(digest).open("rb"))

    def _blob(self, digest: str) -> Path:
        return self.store / "blobs" / digest.replace(":", "/")

    def empty(self) -> None:
        """Go on with a new store."""
        self.store = self.directory / f"store-{next(self._stores)}"


@dataclass(slots=True)
class Skopeo:
    """skopeo has no store: images come from OCI layouts and go into `dir:` directories, unchanged."""

    unpacks_zstd: ClassVar[bool] = True
    sandbox: Sandbox
    directory: Path
    _stores: Iterator[int] = field(default_factory=itertools.count)
    _cache: Path = field(init=False)

    def __post_init__(self) -> None:
        self._cache = self.directory / "cache"

    def run(self, *arguments: str) -> str:
        """Run a skopeo command."""
        return self.sandbox.run(program("skopeo"), *arguments, cache=self._cache)

    def load(self, image: Image) -> str:
        return image.reference

    def push(self, name: str, target: str) -> str:
        return self.copy(name, f"docker://{target}", "--dest-tls-verify=false", "--preserve-digests")

    def pull(self, source: str) -> Pulled:
        store = self.directory / f"{next(self._stores)}"
        self._cache = store.with_suffix(".cache")
        self.copy(f"docker://{source}", f"dir:{store}", "--src-tls-verify=false", "--preserve-digests")
        return Pulled(f"dir:{store}", contents_of_directory(store))

    def copy(self, source: str, target: str, *options: str) -> str:
        """Copy an image between any two places and return the digest of its manifest."""
        digest_file = self.directory / "digest"
        self.run("copy", *options, "--digestfile", str(digest_file), source, target)
        return digest_file.read_text().strip()


def contents_of_directory(store: Path) -> Contents:
    """Compute the digests of an image in a `dir:` directory, whose blobs are named by their hex."""
    manifest = (store / "manifest.json").read_bytes()
    return of_blobs(manifest, lambda digest: (store / digest.partition(":")[2]).open("rb"))


@dataclass(slots=True)
class Podman:
    """podman with the vfs driver, which works on any file system; an emptied store is a new one."""

    unpacks_zstd: ClassVar[bool] = True
    sandbox: Sandbox
    directory: Path
    _stores: Iterator[int] = field(default_factory=itertools.count)
    _store: Path = field(init=False)

    def __post_init__(self) -> None:
        self.empty()

    def run(self, *arguments: str) -> str:
        """Run a podman command on the present store."""
        return self._run("podman", *arguments)

    def load(self, image: Image) -> str:
        # podman would make a name of the layout's path, and refuses some paths for it.
        name = "localhost/loaded:latest"
        target = f"containers-storage:[vfs@{self._store / 'root'}+{self._store / 'run'}]{name}"
        self.sandbox.run(program("skopeo"), "copy", image.reference, target, cache=self._store / "cache")
        return name

    def push(self, name: str, target: str) -> str:
        digest_file = self.directory / "digest"
        self.run(
            "push", "--quiet", "--tls-verify=false", "--digestfile", str(digest_file), name, f"docker://{target}"
        )  # fmt: skip
        return digest_file.read_text().strip()

    def pull(self, source: str) -> Pulled:
        self.empty()
        name = self.run("pull", "--quiet", "--tls-verify=false", f"docker://{source}").split()[-1]
        # The layers leave the store uncompressed, put together of its files again.
        exported = self._store / "exported"
        self.run("push", "--quiet", name, f"dir:{exported}")
        contents = replace(contents_of_directory(exported), manifest=self._digest(name))
        assert contents.config == f"sha256:{name}"
        return Pulled(name, contents)

    def _digest(self, name: str) -> str:
        return self.run("image", "inspect", "--format", "{{.Digest}}", name).strip()

    def _run(self, program_name: str, *arguments: str) -> str:
        options = ["--root", str(self._store / "root"), "--runroot", str(self._store / "run")]
        command = [program(program_name), *options, "--storage-driver", "vfs", *arguments]
        return self.sandbox.run(*command, cache=self._store / "cache")

    def empty(self) -> None:
        """Go on with a new store."""
        self._store = self.directory / f"{next(self._stores)}"
        self._store.mkdir()


@dataclass(slots=True)
class Buildah(Podman):
    """buildah: the stores of podman, with commands of its own."""

    def run(self, *arguments: str) -> str:
        return self._run("buildah", *arguments)

    def _digest(self, name: str) -> str:
        images = json.loads(self.run("images", "--json", "--no-trunc"))
        (digest,) = [image["digest"] for image in images if image["id"].removeprefix("sha256:") == name]
        return str(digest)


@dataclass(frozen=True, slots=True)
class Daemon:
    """A running dockerd or containerd and its socket."""

    socket: Path
    root: Path


@dataclass(slots=True)
class Docker:
    """docker and its daemon; one daemon serves all tests, so each works under names of its own."""

    unpacks_zstd: ClassVar[bool] = False
    sandbox: Sandbox
    directory: Path
    daemon: Daemon

    def run(self, *arguments: str) -> str:
        """Run a docker command."""
        return self.sandbox.run(program("docker"), "--host", f"unix://{self.daemon.socket}", *arguments)

    def load(self, image: Image) -> str:
        archive = self.directory / "load.tar"
        archive.unlink(missing_ok=True)
        command = [program("skopeo"), "copy", image.reference, f"docker-archive:{archive}"]
        self.sandbox.run(*command, cache=self.directory / "cache")
        loaded = re.search(r"sha256:[0-9a-f]{64}", self.run("load", "--input", str(archive)))
        assert loaded is not None
        return loaded[0]

    def push(self, name: str, target: str) -> str:
        self.run("tag", name, target)
        pushed = re.search(r"digest: (sha256:[0-9a-f]{64})", self.run("push", target))
        assert pushed is not None
        return pushed[1]

    def pull(self, source: str) -> Pulled:
        self.empty()
        self.run("pull", "--quiet", source)
        (image,) = json.loads(self.run("image", "inspect", source))
        repository = source.partition("@")[0].rpartition(":")[0] or source
        (digest,) = {
            name.partition("@")[2]
            for name in image["RepoDigests"]
            if source.startswith(name.partition("@")[0]) or name.startswith(repository)
        }
        archive = self.directory / "save.tar"
        self.run("save", "--output", str(archive), source)
        contents = of_archive(archive, digest)
        assert contents.config == image["Id"]
        return Pulled(source, contents)

    def empty(self) -> None:
        """Remove all images of the daemon."""
        if images := self.run("image", "ls", "--all", "--quiet", "--no-trunc").split():
            self.run("image", "rm", "--force", *set(images))


@dataclass(slots=True)
class Ctr:
    """containerd and its ctr, which speaks to the registry itself; an emptied store is a new namespace."""

    unpacks_zstd: ClassVar[bool] = True
    sandbox: Sandbox
    directory: Path
    daemon: Daemon
    _stores: Iterator[int] = field(default_factory=itertools.count)
    _namespace: str = field(init=False)

    def __post_init__(self) -> None:
        self.empty()

    def run(self, *arguments: str) -> str:
        """Run a ctr command in the present namespace."""
        options = ["--address", str(self.daemon.socket), "--namespace", self._namespace]
        return self.sandbox.run(program("ctr"), *options, *arguments)

    def load(self, image: Image) -> str:
        archive = self.directory / "load.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(image.layout, arcname=".")
        self.run("images", "import", "--no-unpack", "--all-platforms", "--base-name", "local", str(archive))
        return "local:latest"

    def push(self, name: str, target: str) -> str:
        self.run("images", "push", "--plain-http", target, name)
        return self.digest(name)

    def pull(self, source: str) -> Pulled:
        self.empty()
        self.run("images", "pull", "--plain-http", "--snapshotter", "native", source)
        manifest = self._blob(self.digest(source)).read_bytes()
        if "manifests" in json_object(manifest):
            manifest = self._blob(child_of_this_machine(manifest)).read_bytes()
        return Pulled(source, of_blobs(manifest, lambda digest: self._blob(digest).open("rb")))

    def digest(self, name: str) -> str:
        """Return the digest of what a name means in the present namespace."""
        rows = [line.split() for line in self.run("images", "ls").splitlines()]
        (digest,) = [row[2] for row in rows if row[0] == name]
        return digest

    def _blob(self, digest: str) -> Path:
        # One file for all namespaces, but each has to fetch it: `isolated` in the configuration.
        blobs = self.daemon.root / "io.containerd.content.v1.content/blobs"
        return blobs / digest.replace(":", "/")

    def empty(self) -> None:
        """Go on in a new namespace."""
        self._namespace = f"{self.directory.name}-{next(self._stores)}"


@contextlib.contextmanager
def dockerd(sandbox: Sandbox, directory: Path) -> Iterator[Daemon]:
    """Run a docker daemon that neither builds networks nor touches the machine's own."""
    daemon = Daemon(directory / "docker.sock", directory / "data")
    configuration = {
        "data-root": str(daemon.root),
        "exec-root": str(directory / "exec"),
        "pidfile": str(directory / "pid"),
        "hosts": [f"unix://{daemon.socket}"],
        "storage-driver": "vfs",
        "iptables": False,
        "ip6tables": False,
        "bridge": "none",
    }
    (directory / "daemon.json").write_text(json.dumps(configuration))
    command = [program("dockerd"), "--config-file", str(directory / "daemon.json")]
    with _running_daemon(sandbox, daemon, command, directory / "log"):
        yield daemon


@contextlib.contextmanager
def containerd(sandbox: Sandbox, directory: Path) -> Iterator[Daemon]:
    """Run a containerd whose namespaces do not lend each other content."""
    daemon = Daemon(directory / "containerd.sock", directory / "root")
    (directory / "config.toml").write_text(
        f"""\
        version = 2
        root = "{daemon.root}"
        state = "{directory / "state"}"
        disabled_plugins = ["io.containerd.grpc.v1.cri"]
        [grpc]
        address = "{daemon.socket}"
        [plugins."io.containerd.metadata.v1.bolt"]
        content_sharing_policy = "isolated"
        """
    )
    command = [program("containerd"), "--config", str(directory / "config.toml")]
    with _running_daemon(sandbox, daemon, command, directory / "log"):
        yield daemon


@contextlib.contextmanager
def _running_daemon(sandbox: Sandbox, daemon: Daemon, command: list[str], log: Path) -> Iterator[None]:
    with sandbox.running(*command, log=log) as process:
        wait_until(daemon.socket.exists, process, log)
        yield
