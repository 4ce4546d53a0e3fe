"""Others with us: Debian's docker-registry takes our tokens, skopeo and our own client take our service."""

import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpx
import jwt
import pytest

from client.content import BytesContent
from client.credentials import ANONYMOUS, Credential, Credentials, Given
from client.endpoints import Host, Scheme
from client.network import Network
from client.session import Session
from storage.oci.digest import Digest
from storage.oci.errors import Denied, Unauthorized
from storage.oci.manifest import Manifest
from storage.oci.media_types import IMAGE_MANIFEST
from storage.oci.names import RepositoryName, Tag
from tests.client.clocks import FakeClock
from tests.client.conftest import docker_registry
from tests.registry.auth.doors import SERVICE, Door, bearer, serving_behind
from tests.registry.pushing import Repository, image

ALICE, BOB = Credential("alice", "wonder"), Credential("bob", "builder")
V1 = Tag("v1")


@pytest.fixture
def open_session() -> Iterator["Open"]:
    with ExitStack() as stack:
        yield Open(stack)


class Open:
    """Opens sessions of our client that end with the test."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(self, address: str, credential: Credential | None = None) -> Session:
        credentials: Credentials = Given(address, credential) if credential else ANONYMOUS
        host = Host(address, address, Scheme.HTTP)
        return self._stack.enter_context(Session(host, credentials, Network(deadline=FakeClock().deadline())))


def fresh(namespace: str) -> RepositoryName:
    return RepositoryName(f"{namespace}/{uuid.uuid4().hex[:12]}")


def push(session: Session, name: RepositoryName, layer: bytes) -> Manifest:
    for content in (b"{}", layer):
        session.upload_blob(name, Digest.of(content), BytesContent(content))
    manifest = Manifest.parse(IMAGE_MANIFEST, image(b"{}", layer))
    session.put_manifest(name, V1, manifest)
    return manifest


# Our client against our service


def test_our_client_pushes_pulls_and_mounts(door: Door, open_session: Open) -> None:
    alice, bob = open_session(door.address, ALICE), open_session(door.address, BOB)
    source, target = fresh("alice"), fresh("alice")

    manifest = push(alice, source, b"a layer of its own")

    assert bob.get_manifest(source, V1).digest == manifest.digest
    assert alice.mount_blob(target, Digest.of(b"a layer of its own"), source) is None, "mounted"
    with pytest.raises(Denied):
        push(bob, source, b"another")
    with pytest.raises(Unauthorized):
        open_session(door.address).get_manifest(source, V1)


def test_our_client_pulls_what_is_public_without_credentials(door: Door, open_session: Open) -> None:
    name = fresh("public")
    manifest = push(open_session(door.address, ALICE), name, b"a public layer")

    assert open_session(door.address).get_manifest(name, V1).digest == manifest.digest


def test_our_client_logs_in_once_and_refreshes(door: Door, open_session: Open) -> None:
    stored = open_session(door.address, ALICE).login(ALICE)
    assert stored.identity_token
    assert not stored.password
    checked = len(door.people.checked)

    manifest = push(open_session(door.address, stored), name := fresh("alice"), b"refreshed")

    assert open_session(door.address, stored).get_manifest(name, V1).digest == manifest.digest
    assert len(door.people.checked) == checked, "no password was seen again"
    with pytest.raises(Unauthorized):
        open_session(door.address, replace(stored, identity_token="wrong")).get_manifest(name, V1)


def test_our_client_is_told_that_a_password_is_wrong(door: Door, open_session: Open) -> None:
    with pytest.raises(Unauthorized):
        open_session(door.address, Credential("alice", "wrong")).get_manifest(fresh("alice"), V1)


def test_our_client_lists_the_catalog(door: Door, open_session: Open) -> None:
    name = fresh("alice")
    push(open_session(door.address, ALICE), name, b"listed")

    assert name in list(open_session(door.address, BOB).catalog())
    with pytest.raises(Unauthorized):
        list(open_session(door.address).catalog())


def test_our_client_deletes(door: Door, open_session: Open) -> None:
    alice = open_session(door.address, ALICE)
    manifest = push(alice, name := fresh("alice"), b"deleted")

    with pytest.raises(Denied):
        open_session(door.address, BOB).delete_manifest(name, manifest.digest)
    alice.delete_manifest(name, manifest.digest)


# skopeo, whose challenges and forms are those of podman and buildah


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_tok_04_skopeo_logs_in_copies_and_deletes(door: Door, tmp_path: Path) -> None:
    name = fresh("alice")
    with door.bearing(f"repository:{name}:pull,push", auth=("alice", "wonder")) as client:
        Repository(client, name.value).push_image("v1", b"for skopeo")
    authfile = tmp_path / "auth.json"

    def skopeo(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["skopeo", *command], capture_output=True, text=True, check=False)

    account = ("--authfile", str(authfile), "--tls-verify=false")
    there = f"docker://{door.address}/{name}"
    quiet = ("--src-tls-verify=false", "--dest-tls-verify=false", "--authfile", str(authfile))
    assert skopeo("copy", *quiet, f"{there}:v1", f"dir:{tmp_path}/before").returncode != 0
    login = skopeo("login", *account, "--username", "alice", "--password", "wonder", door.address)
    assert login.returncode == 0, login.stderr
    wrong = skopeo("login", *account, "--username", "alice", "--password", "no", door.address)
    assert wrong.returncode != 0
    copied = skopeo("copy", *quiet, f"{there}:v1", f"docker://{door.address}/{fresh('alice')}:v2")
    assert copied.returncode == 0, copied.stderr
    listed = skopeo("list-tags", *account, there)
    assert '"v1"' in listed.stdout, listed.stderr
    deleted = skopeo("delete", *account, f"{there}:v1")
    assert deleted.returncode == 0, deleted.stderr


# docker-registry, whose external issuer we are


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Door]]:
    """Run Debian's docker-registry, which trusts our token service by its certificate and libtrust kid."""
    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is not installed")
    directory = tmp_path_factory.mktemp("theirs")
    with serving_behind(directory / "ours", token_kid="libtrust") as door:
        bundle = directory / "bundle.pem"
        bundle.write_bytes(httpx.get(f"{door.url}/token/certificates").content)
        auth = (
            f'auth: {{token: {{realm: "{door.url}/token", service: "{SERVICE}", issuer: "{door.url}", '
            f'rootcertbundle: "{bundle}"}}}}\n'
        )
        with docker_registry(directory, auth) as address:
            yield address, door


def test_tok_04_docker_registry_takes_our_tokens(theirs: tuple[str, Door], open_session: Open) -> None:
    address, door = theirs
    alice, bob, nobody = (open_session(address, each) for each in (ALICE, BOB, None))
    private, public = fresh("alice"), fresh("public")

    manifest = push(alice, private, b"at theirs")
    assert bob.get_manifest(private, V1).digest == manifest.digest
    with pytest.raises(Denied):
        push(bob, private, b"not at theirs")
    with pytest.raises(Unauthorized):
        nobody.get_manifest(private, V1)
    push(alice, public, b"at theirs for all")
    assert nobody.get_manifest(public, V1).media_type == IMAGE_MANIFEST
    assert alice.mount_blob(public, Digest.of(b"at theirs"), private) is None, "mounted"
    assert ":" in jwt.get_unverified_header(door.token())["kid"]


def test_tok_04_docker_registry_refuses_what_it_cannot_enforce(
    theirs: tuple[str, Door], open_session: Open
) -> None:
    address, door = theirs
    door.people.passwords["maker"] = "m"
    token = door.token("repository:alice/x:pull,push", auth=("maker", "m"))

    access = jwt.decode(token, options={"verify_signature": False})["access"]
    assert access[0]["actions"] == ["pull", "tag-create"]
    assert httpx.get(f"http://{address}/v2/alice/x/tags/list", headers=bearer(token)).status_code == 404
    response = httpx.post(f"http://{address}/v2/alice/x/blobs/uploads/", headers=bearer(token))
    assert response.status_code == 401


def test_the_same_token_pushes_at_ours(theirs: tuple[str, Door]) -> None:
    _, door = theirs
    door.people.passwords["maker"] = "m"
    with door.bearing("repository:alice/made:pull,push", auth=("maker", "m")) as client:
        Repository(client, "alice/made").push_image("v1", b"made")
