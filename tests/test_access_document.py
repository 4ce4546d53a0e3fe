"""docs/access.md: every file is written, every example runs and prints what the page says."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import bcrypt
import jwt
import pytest

from tests import console
from tests.client.certificates import Authority
from tests.client.store.layouts import BASE, TOP, Layout
from tests.registry.auth.issuer import EC_KEY, ISSUER, RSA_KEY, claims, issuing, jwks, sign

DOCUMENT = Path(__file__).parent.parent / "docs/access.md"
PAGES_REGISTRY, PAGES_HOME = "127.0.0.1:5000", "/home/you"
_NAME = re.compile(r"# ([\w.]+)\n")
# What is new in each run, and meant by later examples: passwords, tokens, their ids, keys.
_SECRET = re.compile(r"\b[a-z2-7]{24}\b|\bch[pr]_\w{49}\b|\b[0-9a-f]{16}\b|(?<![\w-])[\w-]{43}(?![\w-])")
_VARYING = re.compile(
    rf"{_SECRET.pattern}|\b\d{{4}}-\d\d-\d\d \d\d:\d\d\b|\b\d{{4}}-\d\d-\d\dT[\d:.]+Z|\b[0-9a-f]{{32}}\b"
)
# A server learns of a change on its machine within two seconds, so that these may have to ask again.
_ASKS_THE_SERVER = ("cargohold login", "cargohold pull", "cargohold copy", "curl")
_PATIENCE_SECONDS = 10
_SERVE = "cargohold serve"

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@dataclass(slots=True)
class Reader:
    """Somebody who follows the page, with a home, a directory and a port of their own."""

    directory: Path
    environment: dict[str, str]
    names: dict[str, str]
    _server: ExitStack = field(default_factory=ExitStack)

    def writes(self, name: str, text: str) -> None:
        """Write a file that the page shows."""
        for written, real in self.names.items():
            text = text.replace(written, real)
        (self.directory / name).write_text(text)

    def types(self, example: console.Example) -> str:
        """Run an example until it prints what the page says; remember secrets by what the page calls them."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            printed = self._run(example)
            if example.matches(printed, _VARYING):
                found = zip(_SECRET.findall(example.output), _SECRET.findall(printed), strict=False)
                self.names.update(found)
                return printed
            if not example.command.startswith(_ASKS_THE_SERVER) or time.monotonic() > deadline:
                return printed

    def _run(self, example: console.Example) -> str:
        if example.command.startswith(_SERVE):
            return self._serve(example)
        return console.run(example, self.directory, self.environment, self.names)

    def _serve(self, example: console.Example) -> str:
        """Start the server anew, and return what it says until it answers and has said all."""
        self.stop()
        said = self.directory.parent / "stderr"
        with said.open("wb") as errors:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {example.command}"],
                cwd=self.directory,
                env=self.environment,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        self._server.callback(process.wait, 30)
        self._server.callback(process.terminate)
        deadline = time.monotonic() + 3 * _PATIENCE_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            if self._answers() and example.matches(self._as_the_page(said), _VARYING):
                break
            time.sleep(0.05)
        return self._as_the_page(said)

    def _as_the_page(self, said: Path) -> str:
        text = said.read_text()
        for written, real in self.names.items():
            text = text.replace(real, written)
        return text

    def _answers(self) -> bool:
        host, _, port = self.names[PAGES_REGISTRY].partition(":")
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        self._server.close()


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    home = tmp_path_factory.mktemp("reader")
    work = home / "work"
    work.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CARGOHOLD_STORE": str(home / "store"),
        "CARGOHOLD_PORT": str(port),
        "LC_ALL": "C.UTF-8",
        "USER": "you",
        "LOGNAME": "you",
    }
    with issuing() as gitlab:
        names = {
            PAGES_REGISTRY: f"127.0.0.1:{port}",
            PAGES_HOME: str(home),
            "https://gitlab.example": gitlab.url,
            # GitHub itself cannot be asked; its keys are those of a file.
            'kind = "github"': f'kind = "github"\njwks_file = "{work / "github.json"}"',
        }
        found = Reader(work, environment, names)
        prepare(found, gitlab.url)
        yield found
        found.stop()


def prepare(reader: Reader, gitlab: str) -> None:
    """Make what the page takes for granted: images, an htpasswd file, the tokens of jobs, certificates."""
    work = reader.directory
    for name, layers in (("app", (BASE,)), ("other", (BASE, TOP))):
        layout = Layout(work / name)
        layout.tag(layout.image(*layers))
    stored = bcrypt.hashpw(b"a long password", bcrypt.gensalt(12)).decode()
    (work / "users.htpasswd").write_text(f"carol:{stored}\ndave:{stored}\n")
    (work / "github.json").write_bytes(jwks(one=RSA_KEY))
    audience = "https://registry.example"
    for number in (1, 2):
        (work / f"job-{number}.jwt").write_text(sign(claims(iss=ISSUER, aud=audience)))
    job = {"iss": gitlab, "aud": audience, "sub": "project_path:octo/app", "project_id": "7"}
    (work / "gitlab-job.jwt").write_text(sign(claims(**job)))
    authority = Authority.create(work / "authority")
    authority.issue("builder", "DNS:builder.example", usage="clientAuth")
    (work / "issuer.json").write_bytes(jwks(theirs=EC_KEY))
    (work / "issuer.jwt").write_text(external_token())


def external_token() -> str:
    """Write an access token as another issuer would."""
    now = int(time.time())
    payload = {
        "iss": "https://auth.example", "aud": "registry.example", "sub": "alice", "jti": "1",
        "iat": now, "nbf": now - 5, "exp": now + 300,
        "access": [{"type": "repository", "name": "team/app", "actions": ["pull"]}],
    }  # fmt: skip
    return jwt.encode(payload, EC_KEY, "ES256", {"kid": "theirs"})


def test_every_example_prints_what_the_page_says(reader: Reader) -> None:
    wrong = []
    for language, text in console.blocks(DOCUMENT):
        if named := _NAME.match(text):
            reader.writes(named[1], text)
        if language != "console":
            continue
        for example in console.examples_of(text):
            printed = reader.types(example)
            if not example.matches(printed, _VARYING):
                wrong.append(f"$ {example.command}\n{printed}")
    assert not wrong, "\n".join(wrong)


def test_three_lines_are_enough() -> None:
    (first, *_) = [text for language, text in console.blocks(DOCUMENT) if language == "toml"]

    assert len(tomllib.loads(first)) == len(first.splitlines()) - 1 == 3


def test_no_secret_is_in_the_audit_log(reader: Reader) -> None:
    lines = (reader.directory / "audit.jsonl").read_text()

    assert all(json.loads(line)["audit"] for line in lines.splitlines())
    kept = [path.read_text().strip() for path in reader.directory.glob("*.token")]
    kept += [path.read_text().strip() for path in reader.directory.glob("*.password")]
    assert kept
    assert not [secret for secret in kept if secret in lines]
