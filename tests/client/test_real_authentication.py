"""Tokens and passwords against Debian's docker-registry, which checks them."""

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from client.content import BytesContent
from client.credentials import ANONYMOUS, Credential, Given
from client.session import Session
from client.sources import RepositorySource
from storage.oci.digest import Digest
from storage.oci.errors import Denied, Unauthorized
from storage.oci.manifest import Manifest
from storage.oci.media_types import IMAGE_MANIFEST
from storage.oci.names import RepositoryName, Tag
from tests.client.conftest import Open, docker_registry
from tests.client.lying import Lying, lying
from tests.client.moving import CONTENT, Mover, descriptor
from tests.client.token_server import ISSUER, LEEWAY_SECONDS, SERVICE, Signer, TokenServer
from tests.registry.pushing import image

pytestmark = pytest.mark.skipif(
    shutil.which("docker-registry") is None, reason="docker-registry is not installed"
)

ALL, READ = {"pull", "push"}, {"pull"}
WRITER = Credential("writer", "secret")
READER = Credential("reader", "secret")
LAYERS = [CONTENT[:1_000_000], CONTENT[1_000_000:2_000_000]]
CONFIG = b"{}"
# bcrypt of `secret`, with the least work.
BCRYPT = "$2b$04$QbpWv1V//UJ2LyoILaZ5AuWGOLHcz4Csjj.r3tAj3nPrCcMEMxmYe"
PUBLIC, PRIVATE = RepositoryName("public/app"), RepositoryName("private/app")


class Rights(dict[str | None, dict[str, set[str]]]):
    """The writer may push below both namespaces, the reader read both, anybody read public ones."""

    def add(self, name: RepositoryName) -> None:
        self.setdefault("writer", {})[name.value] = ALL
        self.setdefault("reader", {})[name.value] = READ
        if name.value.startswith("public/"):
            self.setdefault(None, {})[name.value] = READ


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer.create(tmp_path_factory.mktemp("signer"))


@pytest.fixture(scope="module")
def _tokens(signer: Signer) -> Iterator[tuple[TokenServer, Lying]]:
    tokens = TokenServer(signer, Rights(), {"writer": "secret", "reader": "secret"})
    with lying(tokens) as server:
        yield tokens, server


@pytest.fixture(scope="module")
def registry(
    _tokens: tuple[TokenServer, Lying], signer: Signer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    auth = (
        f'auth: {{token: {{realm: "{_tokens[1].url}/token", service: "{SERVICE}", issuer: "{ISSUER}", '
        f'rootcertbundle: "{signer.certificate}"}}}}\n'
    )
    with docker_registry(tmp_path_factory.mktemp("registry"), auth) as address:
        yield address


@pytest.fixture
def tokens(_tokens: tuple[TokenServer, Lying]) -> TokenServer:
    _tokens[0].asked.clear()
    _tokens[0].seconds = 300
    return _tokens[0]


@pytest.fixture
def name(tokens: TokenServer) -> Callable[[str], RepositoryName]:
    """Make repositories that nobody had before, with the rights of their namespace."""

    def make(namespace: str) -> RepositoryName:
        name = RepositoryName(f"{namespace}/{uuid.uuid4().hex[:12]}")
        assert isinstance(tokens.rights, Rights)
        tokens.rights.add(name)
        return name

    return make


Names = Callable[[str], RepositoryName]


@pytest.fixture
def session(registry: str, open_session: Open) -> Callable[[Credential | None], Session]:
    def make(credential: Credential | None) -> Session:
        return open_session(registry, Given(registry, credential) if credential else ANONYMOUS)

    return make


As = Callable[[Credential | None], Session]


def push(session: Session, name: RepositoryName) -> Manifest:
    for content in (CONFIG, *LAYERS):
        session.upload_blob(name, Digest.of(content), BytesContent(content))
    manifest = Manifest.parse(IMAGE_MANIFEST, image(CONFIG, *LAYERS))
    session.put_manifest(name, Tag("v1"), manifest)
    return manifest


def pull(session: Session, name: RepositoryName, mover: Mover) -> None:
    manifest = session.get_manifest(name, Tag("v1"))
    assert manifest.body == image(CONFIG, *LAYERS)
    mover.fetch([RepositorySource(session, name)], *manifest.layers)
    assert [mover.blob(layer) for layer in manifest.layers] == LAYERS


def test_tok_02_pushes_with_a_password_and_pulls_as_anybody(
    session: As, name: Names, tokens: TokenServer, mover: Mover
) -> None:
    public = name("public")
    push(session(WRITER), public)
    tokens.asked.clear()

    pull(session(None), public, mover)

    assert [(each.method, each.authorization) for each in tokens.asked] == [("GET", None)]


def test_tok_02_pulls_with_a_password(session: As, name: Names, mover: Mover) -> None:
    private = name("private")
    push(session(WRITER), private)

    pull(session(READER), private, mover)


def test_tok_02_pushes_with_an_identity_token(session: As, name: Names, tokens: TokenServer) -> None:
    stored = session(None).login(WRITER)
    assert (stored.password, bool(stored.identity_token)) == ("", True)
    tokens.asked.clear()

    push(session(stored), name("private"))

    assert {each.method for each in tokens.asked} == {"POST"}
    assert all("password" not in each.form for each in tokens.asked)


def test_tok_02_mounts_with_two_scopes(session: As, name: Names, tokens: TokenServer) -> None:
    source, target = name("private"), name("private")
    writer = session(WRITER)
    push(writer, source)
    tokens.asked.clear()

    assert writer.mount_blob(target, Digest.of(LAYERS[0]), source) is None

    assert writer.has_blob(target, Digest.of(LAYERS[0]))
    assert set(tokens.asked[0].query["scope"]) == {
        f"repository:{target}:pull,push",
        f"repository:{source}:pull",
    }


def test_cli_07_a_wrong_password_is_tried_once(session: As, name: Names, tokens: TokenServer) -> None:
    with pytest.raises(Unauthorized, match="of writer from the test"):
        session(replace(WRITER, password="wrong", source="the test")).get_manifest(name("private"), Tag("v1"))

    assert len(tokens.asked) == 1


def test_cli_07_what_is_not_granted_is_denied(session: As, name: Names) -> None:
    private = name("private")
    content = BytesContent(CONFIG)

    with pytest.raises(Denied, match=f"of reader do not allow repository:{private}"):
        session(READER).upload_blob(private, Digest.of(CONFIG), content)
    with pytest.raises(Unauthorized, match="none were found"):
        session(None).upload_blob(private, Digest.of(CONFIG), content)
    with pytest.raises(Unauthorized, match="none were found"):
        session(None).get_manifest(private, Tag("v1"))


def test_a_mount_from_what_may_not_be_read_is_denied(session: As, name: Names) -> None:
    with pytest.raises(Denied):
        session(WRITER).mount_blob(name("private"), Digest.of(CONFIG), RepositoryName("secret/app"))


def test_cli_07_replaces_a_token_that_ends_in_mid_pull(
    registry: str, session: As, name: Names, tokens: TokenServer, mover: Mover
) -> None:
    private = name("private")
    manifest = push(session(WRITER), private)
    tokens.asked.clear()
    tokens.seconds = 2 - LEEWAY_SECONDS
    reader = session(READER)
    reader.get_manifest(private, Tag("v1"))
    wait_until_refused(registry, private, tokens.issued[-1])
    tokens.seconds = 300

    mover.fetch([RepositorySource(reader, private)], *manifest.layers)

    assert [mover.blob(descriptor(layer)) for layer in LAYERS] == LAYERS
    # The first one was all that the session had, and two threads met its end.
    assert len(tokens.asked) == 2


def wait_until_refused(registry: str, name: RepositoryName, token: str) -> None:
    while True:
        answer = httpx.get(
            f"http://{registry}/v2/{name}/tags/list", headers={"Authorization": f"Bearer {token}"}
        )
        if answer.status_code == 401:
            return
        assert answer.status_code == 200


@pytest.fixture(scope="module")
def htpasswd_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory: Path = tmp_path_factory.mktemp("htpasswd")
    (directory / "htpasswd").write_text(f"writer:{BCRYPT}\n")
    auth = f'auth: {{htpasswd: {{realm: "the tests", path: "{directory / "htpasswd"}"}}}}\n'
    with ExitStack() as stack:
        yield stack.enter_context(docker_registry(directory, auth))


def test_tok_02_pushes_and_pulls_with_basic(htpasswd_registry: str, open_session: Open, mover: Mover) -> None:
    session = open_session(htpasswd_registry, Given(htpasswd_registry, WRITER))

    assert session.login(WRITER) == WRITER
    push(session, PRIVATE)
    pull(session, PRIVATE, mover)


@pytest.mark.parametrize(
    ("credential", "message"),
    [
        pytest.param(replace(WRITER, password="wrong"), "refused the credentials of writer", id="wrong"),
        pytest.param(Credential("nobody", "secret"), "refused the credentials of nobody", id="unknown"),
        pytest.param(None, "none were found", id="none"),
    ],
)
def test_tok_02_is_refused_with_basic(
    htpasswd_registry: str, open_session: Open, credential: Credential | None, message: str
) -> None:
    given = Given(htpasswd_registry, credential) if credential else ANONYMOUS

    with pytest.raises(Unauthorized, match=message):
        open_session(htpasswd_registry, given).get_manifest(PRIVATE, Tag("v1"))
