"""Who may make and move tags, and which tags nobody moves: decided in the transaction that does it."""

import threading
import uuid
from collections.abc import Iterator

import httpx
import pytest

from registry.metadata import immutable
from registry.metadata.immutable import ImmutableTags
from storage.oci.digest import Digest
from storage.oci.media_types import IMAGE_INDEX
from storage.oci.names import referrers_tag
from tests.registry.pushing import Repository, error_code, image, index
from tests.registry.tenants import Tenants, serving_tenants

IMMUTABLE = [{"repository": "team/**", "tags": "v*"}, {"repository": "team/sealed-*", "tags": "*"}]


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    with serving_tenants(tmp_path_factory.mktemp("tenants"), immutable=IMMUTABLE) as running:
        yield running


@pytest.fixture
def hers(tenants: Tenants) -> Repository:
    return tenants.fresh("team", "alice")


def as_person(tenants: Tenants, repository: Repository, person: str) -> Repository:
    return tenants.repository(repository.name, person)


def another(repository: Repository, number: int = 0) -> bytes:
    """Push the parts of an image and return its manifest, unpushed."""
    config, layer = b"{}", b"layer %d" % number
    repository.push_blob(config)
    repository.push_blob(layer)
    return image(config, layer)


def denied(response: httpx.Response) -> str:
    assert (response.status_code, error_code(response)) == (403, "DENIED"), response.text
    return str(response.json()["errors"][0]["message"])


def named(repository: Repository, tag: str) -> str | None:
    response = repository.get(f"manifests/{tag}")
    return response.headers["Docker-Content-Digest"] if response.status_code == 200 else None


# AUTH-18: tag-create and tag-overwrite


@pytest.mark.parametrize("tag", ["latest", "1.0"])
def test_AUTH_18_a_maker_makes_tags_and_moves_none(tenants: Tenants, hers: Repository, tag: str) -> None:
    maker = as_person(tenants, hers, "maker")
    first = maker.push_image(tag)

    message = denied(maker.put_manifest(tag, another(maker)))

    assert message == f"{hers.name}:{tag} exists, and no rule lets you move it"
    assert named(hers, tag) == str(Digest.of(first))
    assert maker.put_manifest(tag, first).status_code == 201, "the same again moves nothing"


@pytest.mark.parametrize("tag", ["latest", "1.0"])
def test_AUTH_18_a_mover_moves_tags_and_makes_none(tenants: Tenants, hers: Repository, tag: str) -> None:
    mover = as_person(tenants, hers, "mover")
    manifest = another(mover)

    message = denied(mover.put_manifest(tag, manifest))
    assert message == f"no rule lets you make the new tag {hers.name}:{tag}"
    assert named(hers, tag) is None

    hers.push_image(tag)
    assert mover.put_manifest(tag, manifest).status_code == 201
    assert named(hers, tag) == str(Digest.of(manifest))


@pytest.mark.parametrize("person", ["maker", "mover"])
def test_AUTH_18_a_push_by_digest_alone_moves_nothing(
    tenants: Tenants, hers: Repository, person: str
) -> None:
    theirs = as_person(tenants, hers, person)
    manifest = another(theirs)

    assert theirs.put_manifest(Digest.of(manifest), manifest).status_code == 201


def test_AUTH_18_tags_beside_a_digest_need_the_same_rights(tenants: Tenants, hers: Repository) -> None:
    hers.push_image("old")
    before = named(hers, "old")
    maker, mover = (as_person(tenants, hers, person) for person in ("maker", "mover"))
    manifest = another(maker)
    both = f"{Digest.of(manifest)}?tag=new&tag=old"

    assert "old exists" in denied(maker.put_manifest(both, manifest))
    assert "new tag" in denied(mover.put_manifest(both, manifest))

    assert (named(hers, "new"), named(hers, "old")) == (None, before), "all or nothing"
    assert hers.get(f"manifests/{Digest.of(manifest)}").status_code == 404
    assert maker.put_manifest(f"{Digest.of(manifest)}?tag=new", manifest).status_code == 201


def test_AUTH_18_of_two_makers_one_makes_the_tag(tenants: Tenants, hers: Repository) -> None:
    makers = [as_person(tenants, hers, "maker") for _ in range(8)]
    manifests = [another(maker, number) for number, maker in enumerate(makers)]
    barrier, statuses = threading.Barrier(len(makers)), []

    def push(maker: Repository, manifest: bytes) -> None:
        barrier.wait()
        statuses.append(maker.put_manifest("raced", manifest).status_code)

    threads = [threading.Thread(target=push, args=pair) for pair in zip(makers, manifests, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(statuses) == [201, *[403] * 7]


@pytest.mark.parametrize(
    ("person", "tag", "allowed"),
    [("maker", "new", True), ("maker", "old", False), ("mover", "new", False), ("mover", "old", True)],
)
def test_AUTH_18_a_token_carries_the_difference(
    tenants: Tenants, hers: Repository, person: str, tag: str, allowed: bool
) -> None:
    hers.push_image("old")
    manifest = another(hers)

    with tenants.bearing(person, f"repository:{hers.name}:pull,push") as http:
        response = Repository(http, hers.name).put_manifest(tag, manifest)

    assert response.status_code == (201 if allowed else 403)


@pytest.mark.parametrize("person", ["maker", "mover", "reader"])
def test_AUTH_18_who_may_make_or_move_may_not_delete(tenants: Tenants, hers: Repository, person: str) -> None:
    manifest = hers.push_image("old")

    for path in ("manifests/old", f"manifests/{Digest.of(manifest)}"):
        denied(tenants[person].delete(f"{hers.url}/{path}"))


# Immutable tags


def test_an_immutable_tag_names_one_manifest_for_ever(hers: Repository) -> None:
    first = hers.push_image("v1")

    message = denied(hers.put_manifest("v1", another(hers)))

    assert message == f"{hers.name}:v1 is immutable by team/**:v*; push under another tag"
    assert named(hers, "v1") == str(Digest.of(first))
    assert hers.put_manifest("v1", first).status_code == 201, "the same again is fine"
    assert hers.put_manifest("latest", another(hers)).status_code == 201, "other tags are not meant"
    assert hers.put_manifest("latest", first).status_code == 201


def test_an_immutable_tag_beside_others_refuses_them_all(hers: Repository) -> None:
    hers.push_image("v1")
    manifest = another(hers)

    denied(hers.put_manifest(f"{Digest.of(manifest)}?tag=latest&tag=v1", manifest))

    assert named(hers, "latest") is None


def test_an_immutable_tag_is_not_deleted_nor_its_manifest(hers: Repository) -> None:
    manifest = hers.push_image("v1")
    hers.put_manifest("latest", manifest)

    assert "immutable" in denied(hers.http.delete(f"{hers.url}/manifests/v1"))
    assert "immutable" in denied(hers.http.delete(f"{hers.url}/manifests/{Digest.of(manifest)}"))

    assert named(hers, "v1") == named(hers, "latest") == str(Digest.of(manifest))
    assert hers.http.delete(f"{hers.url}/manifests/latest").status_code == 202
    assert hers.http.delete(f"{hers.url}/manifests/v2").status_code == 404, "what is not there is unknown"


def test_a_manifest_without_an_immutable_tag_is_deleted(hers: Repository) -> None:
    manifest = hers.push_image("latest")

    assert hers.http.delete(f"{hers.url}/manifests/{Digest.of(manifest)}").status_code == 202


@pytest.mark.parametrize("ending", ["", ".sig", ".att", ".sbom"])
def test_the_tags_in_which_clients_keep_referrers_are_exempt(tenants: Tenants, ending: str) -> None:
    sealed = tenants.repository(f"team/sealed-{uuid.uuid4().hex[:12]}", "alice")
    first = sealed.push_image("release")
    denied(sealed.put_manifest("release", another(sealed)))
    tag = f"{referrers_tag(Digest.of(first))}{ending}"

    for children in ((), (first,)):
        assert sealed.put_manifest(tag, index(*children), IMAGE_INDEX).status_code == 201
    assert sealed.http.delete(f"{sealed.url}/manifests/{tag}").status_code == 202


def test_a_row_of_the_database_protects_at_once(tenants: Tenants) -> None:
    mine = tenants.fresh("bob", "bob")
    first = mine.push_image("v1")
    pattern = ImmutableTags.parse("bob/**", "v*")
    row = tenants.database.transaction(lambda db: immutable.add(db, pattern))

    denied(mine.put_manifest("v1", another(mine)))
    denied(mine.http.delete(f"{mine.url}/manifests/v1"))
    assert [stored.pattern for stored in tenants.database.read(immutable.listing)] == [pattern]

    assert tenants.database.transaction(lambda db: immutable.remove(db, row))
    assert not tenants.database.transaction(lambda db: immutable.remove(db, row))
    assert named(mine, "v1") == str(Digest.of(first))
    assert mine.put_manifest("v1", another(mine)).status_code == 201
