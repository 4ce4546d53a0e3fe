"""What one tenant's repositories tell another: nothing. Rows ISO and AUTH of the threat model, by ID."""

import json
import re
import statistics
import time
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator

import httpx
import pytest

from registry.auth.rules import Rule
from registry.metadata import rules
from storage.oci.digest import Digest
from storage.oci.media_types import IMAGE_INDEX, IMAGE_MANIFEST
from tests.registry.pushing import OCTETS, Repository, artifact, error_code, image, index, with_digest
from tests.registry.tenants import Tenants, serving_tenants, shape
from tests.registry.wire import Answer, connect


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    with serving_tenants(tmp_path_factory.mktemp("tenants")) as running:
        yield running


@pytest.fixture
def secret() -> bytes:
    """Bytes that nobody has pushed yet."""
    return uuid.uuid4().bytes


def raw_get(tenants: Tenants, path: str, **headers: str) -> Answer:
    """Ask for a path as it is: httpx would tidy it up."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with connect(tenants.url) as wire:
        wire.send(f"GET {path} HTTP/1.1\r\nHost: registry.test\r\n{lines}\r\n")
        return wire.answer()


# ISO-01: knowing a digest gives nothing


READS: dict[str, Callable[[Repository, Digest], httpx.Response]] = {
    "get": lambda repository, digest: repository.get(f"blobs/{digest}"),
    "head": lambda repository, digest: repository.http.head(f"{repository.url}/blobs/{digest}"),
    "range": lambda repository, digest: repository.get(f"blobs/{digest}", Range="bytes=0-0"),
    "unchanged": lambda repository, digest: repository.get(
        f"blobs/{digest}", **{"If-None-Match": f'"{digest}"'}
    ),
    "delete": lambda repository, digest: repository.http.delete(f"{repository.url}/blobs/{digest}"),
}


@pytest.mark.parametrize("read", [pytest.param(read, id=name) for name, read in READS.items()])
def test_ISO_01_a_digest_opens_no_blob_of_another_repository(
    tenants: Tenants, secret: bytes, read: Callable[[Repository, Digest], httpx.Response]
) -> None:
    digest = tenants.fresh("alice", "alice").push_blob(secret)
    mine = tenants.fresh("bob", "bob")
    mine.push_blob(b"mine")

    before = shape(read(mine, Digest.of(b"nobody's")), str(Digest.of(b"nobody's")))
    for _ in range(2):  # a cache that was filled in between changes nothing
        assert shape(read(mine, digest), str(digest)) == before
        assert before[0] == 404
        assert tenants["alice"].get("/v2/").status_code == 200


def test_ISO_01_a_digest_opens_no_manifest_of_another_repository(tenants: Tenants) -> None:
    hers = tenants.fresh("alice", "alice")
    manifest = hers.push_image("v1")
    mine = tenants.fresh("bob", "bob")
    mine.push_image("v1", b"mine")

    for method in ("GET", "HEAD", "DELETE"):
        response = mine.http.request(method, f"{mine.url}/manifests/{Digest.of(manifest)}")
        assert response.status_code == 404
    assert hers.get("manifests/v1").content == manifest


# ISO-02: no read by reference


def test_ISO_02_a_manifest_cannot_name_a_blob_of_another_repository(tenants: Tenants, secret: bytes) -> None:
    tenants.fresh("alice", "alice").push_blob(secret)
    mine = tenants.fresh("bob", "bob")
    mine.push_blob(b"{}")

    response = mine.put_manifest("v1", image(b"{}", secret))

    assert (response.status_code, error_code(response)) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert response.json()["errors"][0]["detail"]["digest"] == str(Digest.of(secret))


def test_ISO_02_an_index_cannot_name_a_manifest_of_another_repository(tenants: Tenants) -> None:
    manifest = tenants.fresh("alice", "alice").push_image("v1")

    response = tenants.fresh("bob", "bob").put_manifest("v1", index(manifest), IMAGE_INDEX)

    assert (response.status_code, error_code(response)) == (400, "MANIFEST_BLOB_UNKNOWN")


# ISO-03: a link is made by bytes, never by a digest


def test_ISO_03_known_bytes_are_linked_when_all_of_them_came(tenants: Tenants, secret: bytes) -> None:
    digest = tenants.fresh("alice", "alice").push_blob(secret)
    mine = tenants.fresh("bob", "bob")

    location = mine.http.patch(mine.begin(), content=secret[:8], headers=OCTETS).headers["Location"]
    assert mine.get(f"blobs/{digest}").status_code == 404
    early = mine.http.put(with_digest(location, digest))
    assert (early.status_code, error_code(early)) == (400, "DIGEST_INVALID")
    assert mine.get(f"blobs/{digest}").status_code == 404

    whole = mine.http.put(with_digest(location, digest), content=secret[8:], headers=OCTETS)
    assert whole.status_code == 201
    assert mine.get(f"blobs/{digest}").content == secret


def test_ISO_03_a_digest_without_bytes_is_an_upload_like_any_other(tenants: Tenants, secret: bytes) -> None:
    digest = tenants.fresh("alice", "alice").push_blob(secret)
    mine = tenants.fresh("bob", "bob")

    assert mine.http.post(f"{mine.url}/blobs/uploads/?digest={digest}").status_code == 202
    empty_put = mine.http.put(with_digest(mine.begin(), digest))
    assert (empty_put.status_code, error_code(empty_put)) == (400, "DIGEST_INVALID")
    assert mine.get(f"blobs/{digest}").status_code == 404


# ISO-04: upload sessions


TOUCHES = ("GET", "PATCH", "PUT", "DELETE")


@pytest.mark.parametrize("method", TOUCHES)
def test_ISO_04_an_upload_is_its_beginners_alone(tenants: Tenants, secret: bytes, method: str) -> None:
    hers = tenants.fresh("team", "alice")
    location = with_digest(hers.begin(), Digest.of(secret))

    # bob may push to this very repository, and has the signed link.
    response = tenants["bob"].request(method, location, content=secret, headers=OCTETS)

    assert (response.status_code, error_code(response)) == (404, "BLOB_UPLOAD_UNKNOWN")
    assert hers.http.put(location, content=secret, headers=OCTETS).status_code == 201


@pytest.mark.parametrize("method", TOUCHES)
def test_ISO_04_an_upload_is_its_repositorys_alone(tenants: Tenants, secret: bytes, method: str) -> None:
    one, other = tenants.fresh("alice", "alice"), tenants.fresh("alice", "alice")
    location = with_digest(one.begin(), Digest.of(secret))

    moved = one.http.request(method, location.replace(one.name, other.name), content=secret, headers=OCTETS)

    assert (moved.status_code, error_code(moved)) == (404, "BLOB_UPLOAD_UNKNOWN")
    assert one.http.put(location, content=secret, headers=OCTETS).status_code == 201


@pytest.mark.parametrize("method", TOUCHES)
def test_ISO_04_an_upload_needs_its_signed_link(tenants: Tenants, method: str) -> None:
    hers = tenants.fresh("alice", "alice")
    location = hers.begin()
    path, _, state = location.partition("?_state=")
    assert len(state) * 6 >= 128

    forged = "A" if state[0] != "A" else "B"
    for tried in (path, f"{path}?_state=", f"{path}?_state={forged}{state[1:]}"):
        response = hers.http.request(method, with_digest(tried, Digest.of(b"")))
        assert (response.status_code, error_code(response)) == (404, "BLOB_UPLOAD_UNKNOWN")
    assert hers.http.get(location).status_code == 204


def test_ISO_04_an_upload_is_named_by_128_random_bits(tenants: Tenants) -> None:
    hers = tenants.fresh("alice", "alice")

    names = {re.search(r"/uploads/([0-9a-f]{32})\?", hers.begin()) for _ in range(20)}

    assert None not in names
    assert len({found[1] for found in names if found}) == 20


# ISO-05: a deletion is final where it happened


def test_ISO_05_a_blob_deleted_here_stays_away_whoever_asks_for_it_there(
    tenants: Tenants, secret: bytes
) -> None:
    here, there = tenants.fresh("alice", "alice"), tenants.fresh("bob", "bob")
    digest = here.push_blob(secret)
    there.push_blob(secret)

    assert here.http.delete(f"{here.url}/blobs/{digest}").status_code == 202

    for _ in range(3):
        assert there.http.head(f"{there.url}/blobs/{digest}").status_code == 200
        assert here.http.head(f"{here.url}/blobs/{digest}").status_code == 404
        assert there.get(f"blobs/{digest}").content == secret
        assert here.get(f"blobs/{digest}").status_code == 404


def test_ISO_05_a_manifest_deleted_here_stays_away(tenants: Tenants) -> None:
    here, there = tenants.fresh("alice", "alice"), tenants.fresh("bob", "bob")
    manifest = here.push_image("v1", b"layer")
    assert there.push_image("v1", b"layer") == manifest
    digest = Digest.of(manifest)

    assert here.http.delete(f"{here.url}/manifests/{digest}").status_code == 202

    for _ in range(3):
        assert there.get("manifests/v1").content == manifest
        assert here.get("manifests/v1").status_code == here.get(f"manifests/{digest}").status_code == 404


# ISO-06: redirects


def test_ISO_06_bytes_come_from_the_registry_itself(tenants: Tenants, secret: bytes) -> None:
    hers = tenants.fresh("alice", "alice")

    response = hers.get(f"blobs/{hers.push_blob(secret)}")

    # This store gives no URLs; where one does, the link is asked first: ISO-01 runs over the same code.
    assert (response.status_code, response.content) == (200, secret)
    assert not response.history
    assert "Location" not in response.headers


# ISO-07: what is remembered opens nothing


def test_ISO_07_the_same_path_is_answered_for_who_asks(tenants: Tenants) -> None:
    hers = tenants.fresh("alice", "alice")
    manifest = hers.push_image("v1")
    path = f"{hers.url}/manifests/v1"

    for _ in range(5):
        assert tenants["alice"].get(path).content == manifest
        assert tenants["bob"].get(path).status_code == 403
        assert tenants[""].get(path).status_code == 401
        assert tenants["alice"].head(path).status_code == 200


def test_ISO_07_a_rule_taken_away_counts_on_the_connection_that_used_it(tenants: Tenants) -> None:
    shared = tenants.fresh("alice", "alice")
    shared.push_image("v1")
    theirs = tenants.repository(shared.name, "reader")
    given = Rule.parse("user:reader", shared.name, ["pull"], "")
    row = tenants.database.transaction(lambda db: rules.add(db, given, ""))
    tenants.policy.refresh()
    assert theirs.get("manifests/v1").status_code == 200

    tenants.database.transaction(lambda db: rules.remove(db, row))
    tenants.policy.refresh()

    assert theirs.get("manifests/v1").status_code == 403


# ISO-08, AUTH-16: mounts


def mount(repository: Repository, digest: Digest, source: str | None) -> httpx.Response:
    query = f"?mount={digest}" + (f"&from={source}" if source else "")
    return repository.http.post(f"{repository.url}/blobs/uploads/{query}")


def upload_shape(response: httpx.Response, repository: Repository) -> tuple[int, dict[str, str], str]:
    """Return what the start of an upload shows besides its own name."""
    state = response.headers["Location"].rpartition("=")[2]
    return shape(response, repository.name, response.headers["Docker-Upload-UUID"], state)


def test_AUTH_16_a_mount_from_where_one_may_read_is_made(tenants: Tenants, secret: bytes) -> None:
    digest = tenants.fresh("team", "alice").push_blob(secret)
    source = tenants.fresh("team", "alice")
    source.push_blob(secret)
    mine = tenants.fresh("bob", "bob")

    assert mount(mine, digest, source.name).status_code == 201
    assert mine.get(f"blobs/{digest}").content == secret


@pytest.mark.parametrize("says_where", [True, False], ids=["from", "without-from"])
def test_AUTH_16_ISO_08_a_mount_without_rights_is_an_upload_that_tells_nothing(
    tenants: Tenants, secret: bytes, says_where: bool
) -> None:
    hers = tenants.fresh("alice", "alice")
    there, nowhere = hers.push_blob(secret), Digest.of(secret + b"!")
    mine = tenants.fresh("bob", "bob")
    source = hers.name if says_where else None

    exists, absent = mount(mine, there, source), mount(mine, nowhere, source)
    no_repository = mount(mine, there, "alice/never-was") if says_where else absent

    assert exists.status_code == 202
    assert upload_shape(exists, mine) == upload_shape(absent, mine) == upload_shape(no_repository, mine)
    assert mine.get(f"blobs/{there}").status_code == 404


def test_AUTH_16_a_mount_without_from_finds_what_one_may_read(tenants: Tenants, secret: bytes) -> None:
    tenants.fresh("alice", "alice").push_blob(secret)
    digest = tenants.fresh("team", "alice").push_blob(secret)
    mine = tenants.fresh("bob", "bob")

    assert mount(mine, digest, None).status_code == 201


def test_AUTH_16_a_mount_needs_push_on_its_target(tenants: Tenants, secret: bytes) -> None:
    source = tenants.fresh("team", "alice")
    digest = source.push_blob(secret)

    assert mount(tenants.repository("team/target", "reader"), digest, source.name).status_code == 403
    assert mount(tenants.repository("alice/target", "bob"), digest, source.name).status_code == 403


def test_AUTH_16_a_token_must_list_both(tenants: Tenants, secret: bytes) -> None:
    source = tenants.fresh("alice", "alice")
    digest = source.push_blob(secret)
    target = f"alice/{uuid.uuid4().hex[:12]}"

    with tenants.bearing("alice", f"repository:{target}:pull,push") as http:
        assert mount(Repository(http, target), digest, source.name).status_code == 202
        assert mount(Repository(http, target), digest, None).status_code == 202
    scopes = (f"repository:{target}:pull,push", f"repository:{source.name}:pull")
    with tenants.bearing("alice", *scopes) as http:
        assert mount(Repository(http, target), digest, source.name).status_code == 201


def test_ISO_08_bytes_that_others_have_are_uploaded_like_new_ones(tenants: Tenants, secret: bytes) -> None:
    tenants.fresh("alice", "alice").push_blob(secret)
    mine = tenants.fresh("bob", "bob")
    shapes = []
    for content in (secret, secret[::-1]):
        digest = Digest.of(content)
        begun = mine.http.post(f"{mine.url}/blobs/uploads/")
        patched = mine.http.patch(begun.headers["Location"], content=content, headers=OCTETS)
        closed = mine.http.put(with_digest(patched.headers["Location"], digest))
        assert closed.status_code == 201
        shapes.append([upload_shape(begun, mine), upload_shape(patched, mine), shape(closed, digest.hex)])

    assert shapes[0] == shapes[1]


# AUTH-11: tokens mean one name


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/v2/{0}/b/manifests/v1", id="below"),
        pytest.param("/v2/{0}b/manifests/v1", id="longer"),
        pytest.param("/v2/{1}/manifests/v1", id="upper-case"),
        pytest.param("/v2/{0}//manifests/v1", id="slash"),
        pytest.param("/v2/{0}%2Fb/manifests/v1", id="encoded-slash"),
        pytest.param("/v2/{0}/../other/manifests/v1", id="dots"),
        pytest.param("/v2/{0}/%2e%2e/other/manifests/v1", id="encoded-dots"),
        pytest.param("/v2/alice/manifests/v1", id="above"),
    ],
)
def test_AUTH_11_a_token_opens_the_name_in_it_and_no_other(tenants: Tenants, path: str) -> None:
    hers = tenants.fresh("alice", "alice")
    for name in (hers.name, f"{hers.name}/b", f"{hers.name}b", "alice/other"):
        tenants.repository(name, "alice").push_image("v1")
    token = tenants.token("alice", f"repository:{hers.name}:pull")

    allowed, response = (
        raw_get(tenants, each, **token)
        for each in (f"{hers.url}/manifests/v1", path.format(hers.name, hers.name.upper()))
    )

    assert allowed.status == 200
    assert response.status in (400, 401, 404)
    assert b"schemaVersion" not in response.body


# AUTH-14: methods


WRITES = [
    pytest.param("POST", "blobs/uploads/", id="begin"),
    pytest.param("POST", "blobs/uploads/?digest={digest}", id="post-a-blob"),
    pytest.param("PUT", "manifests/v1", id="manifest"),
    pytest.param("PUT", "manifests/{digest}", id="manifest-by-digest"),
    pytest.param("DELETE", "manifests/v1", id="delete-tag"),
    pytest.param("DELETE", "manifests/{digest}", id="delete-manifest"),
    pytest.param("DELETE", "blobs/{digest}", id="delete-blob"),
    pytest.param("GET", "blobs/uploads/{upload}", id="upload-status"),
    pytest.param("PATCH", "blobs/uploads/{upload}", id="append"),
    pytest.param("PUT", "blobs/uploads/{upload}?digest={digest}", id="finish"),
    pytest.param("DELETE", "blobs/uploads/{upload}", id="cancel"),
]


@pytest.mark.parametrize("body", [b"", b"x" * 100_000], ids=["empty", "large"])
@pytest.mark.parametrize(("method", "path"), WRITES)
def test_AUTH_14_who_may_pull_may_change_nothing(
    tenants: Tenants, method: str, path: str, body: bytes
) -> None:
    hers = tenants.fresh("team", "alice")
    manifest = hers.push_image("v1")
    path = path.format(digest=Digest.of(manifest), upload="0" * 32)

    response = tenants["reader"].request(method, f"{hers.url}/{path}", content=body)

    assert (response.status_code, error_code(response)) == (403, "DENIED")
    assert hers.get("manifests/v1").content == manifest


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_AUTH_14_no_header_makes_another_method(tenants: Tenants, header: str) -> None:
    hers = tenants.fresh("team", "alice")
    manifest = hers.push_image("v1")
    path = f"{hers.url}/manifests/v1"

    assert tenants["reader"].get(path, headers={header: "DELETE"}).content == manifest
    assert tenants["reader"].post(path, headers={header: "GET"}).status_code == 405
    assert tenants["reader"].delete(path, headers={header: "GET"}).status_code == 403


# AUTH-15: the catalog


def catalog(client: httpx.Client, **query: str | int) -> list[str]:
    """Follow the pages of the catalog."""
    names: list[str] = []
    response = client.get("/v2/_catalog", params=query)
    while True:
        assert response.status_code == 200
        names += response.json()["repositories"]
        if "next" not in response.links:
            return names
        response = client.get(response.links["next"]["url"])


@pytest.mark.parametrize("page", [{}, {"n": 1}], ids=["one-page", "pages-of-one"])
def test_AUTH_15_the_catalog_shows_what_one_may_pull(tenants: Tenants, page: dict[str, int]) -> None:
    mine, hers = tenants.fresh("bob", "bob"), tenants.fresh("alice", "alice")
    ours, everybodys = tenants.fresh("team", "alice"), tenants.fresh("public", "alice")
    for repository in (mine, hers, ours, everybodys):
        repository.push_image("v1")

    seen = {name: catalog(tenants[name], **page) for name in ("alice", "bob", "reader")}

    assert {mine.name, ours.name, everybodys.name} <= set(seen["bob"])
    assert hers.name not in seen["bob"]
    assert {hers.name, ours.name, everybodys.name} <= set(seen["alice"])
    assert mine.name not in seen["alice"]
    assert all(name.startswith(("team/", "public/", "reader/")) for name in seen["reader"])


def test_AUTH_15_the_catalog_is_for_those_who_are_somebody(tenants: Tenants) -> None:
    response = tenants[""].get("/v2/_catalog")

    assert response.status_code == 401
    assert 'scope="registry:catalog:*"' in response.headers["WWW-Authenticate"]


def test_AUTH_15_a_token_without_the_catalog_lists_nothing(tenants: Tenants) -> None:
    hers = tenants.fresh("alice", "alice")
    hers.push_image("v1")

    with tenants.bearing("alice", f"repository:{hers.name}:pull") as http:
        assert http.get("/v2/_catalog").status_code == 401
    with tenants.bearing("bob", "registry:catalog:*") as http:
        assert hers.name not in catalog(http)


@pytest.mark.parametrize(
    "path",
    ["/v2//_catalog", "/v2/_catalog/", "/v2/%5Fcatalog", "/v2/a/_catalog", "/_catalog", "/v2/./_catalog"],
)
@pytest.mark.parametrize("person", ["", "alice"])
def test_AUTH_15_no_other_path_is_the_catalog(tenants: Tenants, path: str, person: str) -> None:
    headers = {"Authorization": "Basic " + b64encode(b"alice:secret").decode()} if person else {}

    response = raw_get(tenants, path, **headers)

    assert response.status in (400, 404)
    assert b"repositories" not in response.body


# AUTH-17: lists and heads need the right on that very repository


SUBJECT = b'{"subject":1}'


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("GET", "tags/list", id="tags"),
        pytest.param("GET", "referrers/{digest}", id="referrers"),
        pytest.param("HEAD", "blobs/{digest}", id="blob-head"),
        pytest.param("GET", "blobs/{digest}", id="blob"),
        pytest.param("HEAD", "manifests/v1", id="manifest-head"),
        pytest.param("GET", "manifests/{digest}", id="manifest"),
        pytest.param("GET", "blobs/uploads/{upload}", id="upload"),
    ],
)
@pytest.mark.parametrize(("person", "status"), [("", 401), ("bob", 403)])
def test_AUTH_17_every_read_needs_the_right_on_that_repository(
    tenants: Tenants, method: str, path: str, person: str, status: int
) -> None:
    hers = tenants.fresh("alice", "alice")
    digest = Digest.of(hers.push_image("v1"))
    upload = hers.begin().rpartition("/")[2]

    response = tenants[person].request(method, f"{hers.url}/{path.format(digest=digest, upload=upload)}")

    assert response.status_code == status


def test_AUTH_17_a_subject_here_shows_in_no_referrers_there(tenants: Tenants) -> None:
    hers, mine = tenants.fresh("alice", "alice"), tenants.fresh("bob", "bob")
    manifest = hers.push_image("v1", b"shared layer")
    assert mine.push_image("v1", b"shared layer") == manifest
    referrer = hers.push_artifact(manifest, "application/vnd.example.sbom")

    def listed(repository: Repository) -> list[str]:
        document = repository.get(f"referrers/{Digest.of(manifest)}").json()
        return [item["digest"] for item in document["manifests"]]

    assert listed(hers) == [str(Digest.of(referrer))]
    assert listed(mine) == []
    mine.push_blob(b"{}")
    other = artifact(manifest, "application/vnd.example.signature")
    assert mine.put_manifest(Digest.of(other), other).status_code == 201
    assert listed(mine) == [str(Digest.of(other))]
    assert listed(hers) == [str(Digest.of(referrer))]


# AUTH-20: deletion switched off


def test_AUTH_20_without_deletion_nothing_is_deleted(tmp_path_factory: pytest.TempPathFactory) -> None:
    with serving_tenants(tmp_path_factory.mktemp("no-delete"), delete_enabled=False) as tenants:
        hers = tenants.fresh("alice", "alice")
        manifest = hers.push_image("v1")
        digest = Digest.of(manifest)

        for path in ("manifests/v1", f"manifests/{digest}", f"blobs/{Digest.of(b'x')}"):
            response = hers.http.delete(f"{hers.url}/{path}")
            assert (response.status_code, error_code(response)) == (405, "UNSUPPORTED")
        assert hers.get("manifests/v1").content == manifest


# AUTH-23: private and missing look the same


EVERY_REQUEST = [
    ("GET", "manifests/v1"),
    ("HEAD", "manifests/v1"),
    ("GET", "manifests/{digest}"),
    ("PUT", "manifests/v1"),
    ("DELETE", "manifests/v1"),
    ("GET", "tags/list"),
    ("GET", "referrers/{digest}"),
    ("GET", "blobs/{digest}"),
    ("HEAD", "blobs/{digest}"),
    ("DELETE", "blobs/{digest}"),
    ("POST", "blobs/uploads/"),
    ("POST", "blobs/uploads/?mount={digest}&from={name}"),
    ("GET", "blobs/uploads/00000000000000000000000000000000"),
    ("PATCH", "blobs/uploads/00000000000000000000000000000000"),
]


@pytest.mark.parametrize(
    ("method", "path"), [pytest.param(*pair, id=" ".join(pair)) for pair in EVERY_REQUEST]
)
@pytest.mark.parametrize("who", ["anonymous", "bob", "token"])
def test_AUTH_23_a_private_and_a_missing_repository_look_the_same(
    tenants: Tenants, method: str, path: str, who: str
) -> None:
    private = tenants.fresh("alice", "alice")
    digest = Digest.of(private.push_image("v1"))
    missing = tenants.fresh("alice", "alice")
    client = tenants["bob" if who == "bob" else ""]
    headers = {}
    if who == "token":
        headers = tenants.token("bob", "repository:bob/x:pull")

    answers = [
        shape(
            client.request(
                method, f"{each.url}/{path.format(digest=digest, name=each.name)}", headers=headers
            ),
            each.name,
        )
        for each in (private, missing)
    ]

    assert answers[0] == answers[1]
    assert answers[0][0] == (403 if who == "bob" else 401)


def test_AUTH_23_private_and_missing_take_the_same_time(tenants: Tenants) -> None:
    private = tenants.fresh("alice", "alice")
    private.push_image("v1")
    missing = tenants.fresh("alice", "alice")

    def seconds(repository: Repository) -> float:
        started = time.perf_counter()
        assert tenants[""].get(f"{repository.url}/manifests/v1").status_code == 401
        return time.perf_counter() - started

    # In pairs, each first in turn: a noisy machine is noisy for both.
    pairs: list[tuple[float, float]] = []
    for _ in range(100):
        one, other = seconds(private), seconds(missing)
        late, early = seconds(missing), seconds(private)
        pairs += [(one, other), (early, late)]

    difference = statistics.median(one - other for one, other in pairs)
    assert abs(difference) < 0.1 * statistics.median(one for one, _ in pairs)


def test_AUTH_23_the_tags_of_what_one_may_read_say_that_it_is_missing(tenants: Tenants) -> None:
    response = tenants["alice"].get(f"/v2/alice/{uuid.uuid4().hex}/tags/list")

    assert (response.status_code, error_code(response)) == (404, "NAME_UNKNOWN")


def test_public_content_needs_nobody(tenants: Tenants) -> None:
    public = tenants.fresh("public", "alice")
    manifest = public.push_image("v1", b"layer")
    anybody = tenants.repository(public.name, "")

    assert anybody.get("manifests/v1").content == manifest
    assert anybody.get(f"blobs/{Digest.of(b'layer')}").content == b"layer"
    assert json.loads(anybody.get("tags/list").content)["tags"] == ["v1"]
    assert anybody.put_manifest("v2", manifest, IMAGE_MANIFEST).status_code == 401
