"""What a new user does first, and what scripts rely on: exit codes, and results alone on stdout."""

import base64
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.client.view.users import AS_USER, USER
from tests.e2e import servers
from tests.e2e.clients import CARGOHOLD, Cargohold
from tests.e2e.images import ImageCache
from tests.e2e.sandbox import Ended, Sandbox, program, wait_until
from tests.e2e.servers import Registry
from tests.e2e.tap import Tap

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

PORT = 5004
# bcrypt of "secret"
_HTPASSWD = "me:$2b$04$YqeTh46f9bAk822qS28hQOG.fweDhC4Fx9icOF058XrJ/VQstYMp2\n"


@dataclass(frozen=True)
class Person:
    """Somebody at a shell, whose home is the working directory."""

    sandbox: Sandbox
    home: Path
    prefix: tuple[str, ...] = ()

    def run(self, *arguments: str) -> Ended:
        """Run a program."""
        environment = {
            "HOME": str(self.home),
            "DOCKER_CONFIG": str(self.home / ".docker"),
            "PATH": f"{CARGOHOLD.parent}:{os.environ['PATH']}",
            **({} if self.prefix else {"CARGOHOLD_STORE": str(self.home / "store")}),
        }
        return self.sandbox.end(*self.prefix, *arguments, environment=environment, directory=self.home)

    def script(self, text: str) -> Ended:
        """Run a shell script, which ends at the first failure."""
        return self.run("bash", "-euo", "pipefail", "-c", text)


@contextmanager
def _person(sandbox: Sandbox, *, is_root: bool) -> Iterator[Person]:
    # Not below pytest's directories, which are closed to others.
    with tempfile.TemporaryDirectory(prefix="home-") as home:
        if not is_root:
            os.chown(home, USER, USER)
        yield Person(sandbox, Path(home), () if is_root else tuple(AS_USER))


@pytest.fixture(params=["root", "user"])
def person(request: pytest.FixtureRequest, lab: Sandbox) -> Iterator[Person]:
    with _person(lab, is_root=request.param == "root") as person:
        yield person


@pytest.fixture
def root(lab: Sandbox) -> Iterator[Person]:
    with _person(lab, is_root=True) as person:
        yield person


@pytest.fixture(scope="module")
def name(lab: Sandbox, shared_workshop: Path, registry: Registry, images: ImageCache) -> str:
    """A small image at the registry."""
    name = f"{registry.host}/e2e/everyday-{shared_workshop.name}:v1"
    Cargohold(lab, shared_workshop).run("copy", images.busybox().reference, name)
    return name


def test_a_new_user_pulls_looks_and_runs(person: Person, name: str) -> None:
    pulled = person.run("cargohold", "pull", name)
    assert (pulled.code, pulled.out) == (0, f"{name}\n")

    listed = person.run("cargohold", "images")
    assert listed.out.splitlines()[1].split()[:2] == name.rsplit(":", 1)

    bundled = person.run("cargohold", "bundle", name, "box", "--", "sh", "-c", "id -u; pwd; echo it runs")
    assert (bundled.code, bundled.out, bundled.err) == (0, "box\n", "")

    program("runc")
    ran = person.run("runc", "--root", "runc", "run", "--bundle", "box", f"e2e-{person.home.name}")
    assert (ran.code, ran.out, ran.err) == (0, "0\n/\nit runs\n", "")


def test_an_ordinary_users_store_is_in_the_home(lab: Sandbox, name: str) -> None:
    with _person(lab, is_root=False) as person:
        assert person.run("cargohold", "pull", "-q", name).code == 0

        store = person.home / ".local/share/cargohold"
        assert (store.stat().st_uid, store.stat().st_mode & 0o7777) == (USER, 0o700)
        assert (store / "index.json").exists()


def test_an_ordinary_user_looks_into_files_and_takes_them_out(
    lab: Sandbox, cargohold: Cargohold, registry: Registry, repository: str, images: ImageCache
) -> None:
    name = f"{registry.host}/{repository}:v1"
    cargohold.run("copy", images.layered().reference, name)
    with _person(lab, is_root=False) as person:
        said = [
            # Each by itself: a shell of the user's may not reach the interpreter of a developer's home.
            person.run("cargohold", *arguments)
            for arguments in (
                ["pull", "-q", name],
                ["ls", name, "opaque"],
                ["cat", name, "/opaque/new"],
                ["unpack", name, "tree"],
                ["store", "check"],
            )
        ]
        status = (person.home / "tree/data/plain").stat()

    assert [(each.out, each.code) for each in said] == [
        (f"{name}\n", 0), ("new\n", 0), ("new\n", 0), ("tree\n", 0), ("", 0),
    ]  # fmt: skip
    assert (status.st_uid, status.st_gid, status.st_nlink) == (USER, USER, 2)


# Scripts


def test_quiet_verbs_print_their_results_alone(
    root: Person, registry: Registry, repository: str, name: str, images: ImageCache
) -> None:
    digest = images.busybox().digest
    copy = f"{registry.host}/{repository}/copy"

    ended = root.script(f"""
        cargohold pull -q {name}
        cargohold tag {name} {copy}:1
        cargohold push -q {copy}:1
        cargohold copy -q {name} {copy}:2
        cargohold images -q {name} | sort -u | wc -l
        cargohold inspect --format '{{{{.RepoDigests}}}}' {copy}:1 | grep -c {digest}
        cargohold rmi {copy}:1
        cargohold save -q {name} | tar t | grep -c manifest.json
        cargohold save -q {name} | cargohold --store other load -q
        cargohold --store other cat {name} /etc/passwd
    """)

    assert ended.out.splitlines() == [
        name,
        f"{copy}:1",
        digest,
        digest,
        "1",
        "1",
        f"Untagged: {copy}:1",
        "1",
        f"Loaded image: {name}",
        "root:x:0:0:root:/:/bin/sh",
    ]
    assert (ended.code, ended.err) == (0, "")


def test_progress_is_no_result(root: Person, name: str) -> None:
    """Whatever is shown of the way, stdout has the result alone."""
    for number, form in enumerate(["auto", "json", "none"]):
        ended = root.run("cargohold", "--store", f"s{number}", "pull", "--progress", form, name)

        assert (ended.code, ended.out) == (0, f"{name}\n")
        assert bool(ended.err) == (form != "none")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param(["pull", "{name}-none"], 3, id="no-tag"),
        pytest.param(["pull", "{host}/no/such"], 3, id="no-repository"),
        pytest.param(["pull", "{name}@sha256:" + "0" * 64], 3, id="no-digest"),
        pytest.param(["pull", "--platform", "plan9/mips", "{name}"], 3, id="no-platform"),
        pytest.param(["copy", "{host}/no/such", "oci:layout"], 3, id="copy-nothing"),
        pytest.param(["push", "no/such"], 3, id="push-nothing"),
        pytest.param(["save", "-o", "x.tar", "no/such"], 3, id="save-nothing"),
        pytest.param(["tag", "no/such", "other"], 3, id="tag-nothing"),
        pytest.param(["cat", "{name}", "/no/such"], 3, id="no-file"),
        pytest.param(["bundle", "{host}/no/such", "box"], 3, id="bundle-nothing"),
        pytest.param(["unpack", "{name}", "/etc"], 1, id="not-empty"),
        pytest.param(["load", "-i", "/etc/passwd"], 1, id="no-archive"),
        pytest.param(["pull"], 2, id="no-argument"),
        pytest.param(["pull", "--no-such", "x"], 2, id="no-option"),
        pytest.param(["pull", "UPPER/CASE"], 2, id="no-name"),
        pytest.param(["no-such-verb"], 2, id="no-verb"),
    ],
)
def test_failure_has_its_exit_code_and_says_so_on_stderr(
    root: Person, registry: Registry, name: str, arguments: list[str], code: int
) -> None:
    filled = [each.format(host=registry.host, name=name) for each in arguments]

    ended = root.run("cargohold", *filled)

    assert (ended.code, ended.out) == (code, "")
    assert "error: " in ended.err
    assert "Traceback" not in ended.err


@pytest.fixture(scope="module")
def closed(lab: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that lets `me` in, who has the password `secret`."""
    directory = tmp_path_factory.mktemp("closed")
    (directory / "htpasswd").write_text(_HTPASSWD)
    more = f"auth: {{htpasswd: {{realm: test, path: {directory / 'htpasswd'}}}}}\n"
    with servers.docker_registry(lab, directory, PORT, more) as running:
        yield running


def test_who_is_not_let_in_is_told_to_log_in(root: Person, closed: Registry, name: str) -> None:
    target = f"{closed.host}/team/app:v1"

    assert root.run("cargohold", "pull", target).code == 4
    wrong = root.script(f"echo wrong | cargohold login -u me --password-stdin {closed.host}")
    assert (wrong.code, wrong.out) == (4, "")
    pushed = root.script(f"""
        cargohold pull -q {name} >&2
        echo secret | cargohold login -u me --password-stdin {closed.host} >&2
        cargohold push -q {name} {target}
        cargohold pull -q {target}
        cargohold logout {closed.host} >&2
    """)
    assert pushed.code == 0, pushed.err
    assert pushed.out.splitlines()[1] == target
    (root.home / ".docker/config.json").write_text(
        json.dumps({"auths": {closed.host: {"auth": base64.b64encode(b"me:wrong").decode()}}})
    )
    ended = root.run("cargohold", "pull", target)
    assert (ended.code, ended.out) == (4, "")
    assert f"try: cargohold login {closed.host}\n" in ended.err


def test_wrong_bytes_end_with_6_and_nothing_is_seen_of_them(
    root: Person, closed: Registry, lab: Sandbox, images: ImageCache, tmp_path: Path
) -> None:
    with servers.docker_registry(lab, tmp_path, PORT + 1) as lying:
        name = f"{lying.host}/app:v1"
        assert root.run("cargohold", "copy", images.layered().reference, name).code == 0
        layer = images.layered().manifest()["layers"][3]["digest"].partition(":")[2]
        (blob,) = tmp_path.glob(f"data/docker/registry/v2/blobs/sha256/*/{layer}/data")
        with blob.open("r+b") as file:
            file.seek(100_000)
            file.write(b"other")

        ended = root.run("cargohold", "pull", name)

    assert (ended.code, ended.out) == (6, "")
    assert root.run("cargohold", "images", "-aq").out == ""
    assert not list(root.home.glob(f"store/blobs/*/{layer}"))


def test_what_was_stopped_ends_with_7_and_goes_on(
    cargohold: Cargohold, tapped: tuple[Tap, str], lab: Sandbox, repository: str, images: ImageCache
) -> None:
    tap, host = tapped
    name = f"{host}/{repository}:v1"
    cargohold.run("copy", images.layered().reference, name)
    tap.hold_one_connection(after=2 << 20)
    log = cargohold.directory / "log"
    largest = images.layered().manifest()["layers"][3]["digest"].replace(":", "-")
    part = cargohold.store / f"partial/{largest}.part"
    command = [str(CARGOHOLD), "--store", str(cargohold.store), "pull", name]
    with lab.running(*command, log=log) as process:
        wait_until(lambda: part.exists() and part.stat().st_size > 1 << 20, process, log)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 7
    assert log.read_text().endswith("stopped\ntry: the same again: what arrived is kept\n")
    assert cargohold.run("images", "-aq") == ""
    tap.forget()

    assert cargohold.run("pull", "-q", name) == f"{name}\n"

    ranges = [request.range for request in tap.requests(repository) if request.range is not None]
    assert any(int(each.removeprefix("bytes=").partition("-")[0]) > 0 for each in ranges)


def test_a_full_disk_ends_with_9(
    root: Person, registry: Registry, repository: str, images: ImageCache
) -> None:
    name = f"{registry.host}/{repository}:v1"
    assert root.run("cargohold", "copy", images.layered().reference, name).code == 0
    small = root.home / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small], check=True)
    try:
        ended = root.run("cargohold", "--store", str(small / "store"), "pull", name)
    finally:
        subprocess.run(["umount", small], check=True)

    assert (ended.code, ended.out) == (9, "")
    assert "error: " in ended.err
