"""Places as people name them, opened."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from client import copy
from client.endpoints import Overrides
from client.errors import DiskFailed
from client.hosts import Hosts
from client.places import names
from client.places.opening import Opener
from client.sessions import Sessions
from storage.oci.errors import ManifestUnknown, NameInvalid, NameUnknown
from storage.oci.names import RepositoryName, Tag
from tests.client.lying import lying, reply_error
from tests.client.machines import Machine
from tests.client.places.samples import Counted, Sample, blobs_of, serving_layout

Copy = Callable[[str, str], copy.CopyResult]


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    made = Sample(tmp_path / "sample")
    made.name(made.index(), "v1")
    return made


@pytest.fixture
def opener(tmp_path: Path, sessions: Sessions) -> Opener:
    hosts = Hosts(Machine(tmp_path / "machine").paths, Overrides(plain_http=True))
    return Opener(hosts, sessions, scratch=tmp_path)


def copied(opener: Opener, source: str, target: str) -> copy.CopyResult:
    where = names.parse(target)
    with opener.source(names.parse(source)) as found, opener.target(where) as place:
        return copy.copy(found.place, found.reference, place, where.name)


def test_copies_round_all_kinds_of_places(
    ours: Counted, opener: Opener, sample: Sample, name: RepositoryName, tmp_path: Path
) -> None:
    texts = [
        f"oci:{sample.root}:v1",
        f"{ours.address}/{name}:v1",
        f"oci-archive:{tmp_path}/oci.tar:v1",
        f"docker://{ours.address}/{name}/more:v2",
        f"docker-archive:{tmp_path}/docker.tar:app:v3",
        f"oci:{tmp_path}/last:v4",
    ]
    digests = {copied(opener, *pair).digest for pair in itertools.pairwise(texts)}

    assert len(digests) == 1
    assert blobs_of(tmp_path / "last") == blobs_of(sample.root)


@pytest.mark.parametrize("kind", ["oci", "oci-archive", "docker-archive"])
def test_says_what_is_not_there(kind: str, opener: Opener, tmp_path: Path) -> None:
    with pytest.raises((ManifestUnknown, DiskFailed), match="nothing"):
        copied(opener, f"{kind}:{tmp_path}/nothing", f"oci:{tmp_path}/copy")


@pytest.mark.parametrize("has_it", [True, False])
def test_reads_a_short_name_from_the_first_registry_that_has_it(
    has_it: bool, sample: Sample, sessions: Sessions, machine: Machine, tmp_path: Path
) -> None:
    with (
        lying(lambda _: reply_error(404, "MANIFEST_UNKNOWN")) as first,
        lying(
            serving_layout(sample.root) if has_it else lambda _: reply_error(404, "NAME_UNKNOWN")
        ) as second,
    ):
        machine.registries(
            f'unqualified-search-registries = ["{first.address}", "{second.address}"]\n'
            'short-name-mode = "permissive"\n'
        )
        opener = Opener(Hosts(machine.paths, Overrides(plain_http=True)), sessions)
        if has_it:
            with opener.source(names.parse("app:v1")) as found:
                assert found.reference == Tag("v1")
                assert found.place.name == f"{second.address}/app"
        else:
            with opener.source(names.parse("app:v1")) as found, pytest.raises(NameUnknown):
                found.place.resolve(found.reference)


def test_writes_to_no_short_name_that_means_two(sessions: Sessions, machine: Machine, sample: Sample) -> None:
    machine.registries(
        'unqualified-search-registries = ["one.example", "two.example"]\nshort-name-mode = "permissive"\n'
    )
    opener = Opener(Hosts(machine.paths), sessions)

    with pytest.raises(NameInvalid, match=r"one\.example, two\.example"):
        copied(opener, f"oci:{sample.root}:v1", "app:v1")
