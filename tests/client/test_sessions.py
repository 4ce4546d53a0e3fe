import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from client.configuration.paths import Paths
from client.credentials import Credential
from client.errors import Unreachable
from client.hosts import Hosts
from client.network import Network
from client.partial import PartialFiles
from client.sessions import Sessions
from client.transfer import Transfer
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest
from storage.oci.media_types import OCTET_STREAM
from storage.oci.names import ImageReference, RepositoryName
from tests.client.clocks import FakeClock
from tests.client.lying import Cut, Lying, Received, lying, reply_error, reply_range

CONTENT = os.urandom(100_000)
BLOB = Descriptor(OCTET_STREAM, Digest.of(CONTENT), len(CONTENT))


class Everywhere:
    """Has a password for each registry by its name."""

    def find(self, registry: str, repository: RepositoryName | None) -> Credential:
        return Credential(registry, "secret")


def configured(tmp_path: Path, mirror: Lying, registry: Lying) -> Hosts:
    path = tmp_path / "registries.conf"
    path.write_text(
        f'[[registry]]\nlocation="{registry.address}"\n[[registry.mirror]]\nlocation="{mirror.address}"\n'
    )
    return Hosts(Paths({"CONTAINERS_REGISTRIES_CONF": str(path), "HOME": "/"}, tmp_path))


def private(received: Received) -> Iterable[bytes]:
    if received.authorization is None:
        return reply_error(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="x"')
    return reply_range(received, CONTENT)


def broken(_: Received) -> Iterable[bytes]:
    raise Cut


def test_fetches_along_a_route(tmp_path: Path, clock: FakeClock) -> None:
    """From configuration to a file: the mirror first, the registry last, to each its own password."""
    with lying(lambda _: reply_error(404, "BLOB_UNKNOWN")) as mirror, lying(private) as registry:
        route = configured(tmp_path, mirror, registry).route(ImageReference.parse(f"{registry.address}/a/b"))
        with Sessions(Everywhere(), Network(deadline=clock.deadline())) as sessions:
            sinks = PartialFiles(tmp_path / "partial", tmp_path / "blobs")
            Transfer(sinks).fetch([BLOB], sessions.sources(route.for_digests()))

        blobs = [f"/v2/a/b/blobs/{BLOB.digest}"]
        assert [each.path for each in mirror.requests if "blobs" in each.path] == blobs
        assert [each.path for each in registry.requests if "blobs" in each.path] == blobs * 2
    assert (tmp_path / "blobs" / "sha256" / BLOB.digest.hex).read_bytes() == CONTENT


def test_makes_one_session_a_host(tmp_path: Path) -> None:
    with lying(private) as mirror, lying(private) as registry, Sessions() as sessions:
        route = configured(tmp_path, mirror, registry).route(ImageReference.parse(f"{registry.address}/a"))
        first, second = sessions.sources(route.endpoints)

        assert sessions.to(route.origin) is second.session
        assert first.session is not second.session


@pytest.mark.parametrize(("which", "attempts"), [("mirror", 2), ("origin", 5)])
def test_has_less_patience_with_a_mirror(tmp_path: Path, clock: FakeClock, which: str, attempts: int) -> None:
    with lying(broken) as mirror, lying(broken) as registry:
        route = configured(tmp_path, mirror, registry).route(ImageReference.parse(f"{registry.address}/a"))
        endpoint = route.endpoints[0] if which == "mirror" else route.origin
        with Sessions(network=Network(deadline=clock.deadline())) as sessions:
            session = sessions.to(endpoint)
            with pytest.raises(Unreachable):
                session.ping()

    assert len(clock.slept) == attempts - 1
