"""doctor: which file and line decides what, and how far one gets on each way."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from storage.oci.digest import Digest
from storage.oci.names import RepositoryName
from tests.client.certificates import Authority
from tests.client.cli.program import Cargohold
from tests.client.homes import auths, entry
from tests.client.lying import lying, reply
from tests.registry.pushing import Repository


@pytest.fixture
def image(our_registry: str, name: RepositoryName) -> str:
    with httpx.Client(base_url=f"http://{our_registry}") as client:
        Repository(client, str(name)).push_image("v1")
    return f"{our_registry}/{name}:v1"


def facts(endpoint: Any) -> dict[str, str]:
    return {fact["what"]: fact["source"] for fact in endpoint["facts"]}


def checks(endpoint: Any) -> dict[str, bool]:
    return {check["name"]: check["ok"] for check in endpoint["checks"]}


def examine(cargohold: Cargohold, *arguments: str, code: int = 0, **environment: str) -> list[Any]:
    done = cargohold.run("doctor", "--json", *arguments, **environment)
    assert done.code == code, done.err
    (reference,) = done.json["references"]
    assert done.json["exit_code"] == code
    endpoints: list[Any] = reference["endpoints"]
    return endpoints


def test_goes_all_the_way(cargohold: Cargohold, image: str) -> None:
    done = cargohold.run("doctor", image)

    assert (done.code, done.err) == (0, "")
    address = image.partition("/")[0]
    assert done.lines[0] == image
    assert done.lines[2] == f"  registry https://{address}/v2/"
    assert [line.split()[:2] for line in done.lines[-4:]] == [
        ["ok", "name"],
        ["ok", "connection"],
        ["ok", "access"],
        ["ok", "manifest"],
    ]
    assert "sha256:" in done.lines[-1]
    assert "no TLS, so plain http" in done.out
    # One column begins at one place.
    assert len({line.index("built in") for line in done.lines if line.endswith("built in")}) == 1


def test_names_file_and_line_of_each_decision(cargohold: Cargohold, image: str) -> None:
    address = image.partition("/")[0]
    cargohold.registries.write_text(
        f'[[registry]]\nlocation = "{address}"\ninsecure = true\n'
        '[[registry.mirror]]\nlocation = "127.0.0.1:1/cache"\ninsecure = true\n'
        'pull-from-mirror = "digest-only"\n'
    )
    config = cargohold.home.write_docker(auths(**{address: entry("me", "hidden")}))

    mirror, origin = examine(cargohold, image)

    assert mirror["is_mirror"]
    assert not mirror["serves_tags"]
    assert facts(mirror)[f"a mirror of {address}"] == f"{cargohold.registries}:4"
    assert facts(mirror)["no credential"] == "no file has one"
    assert checks(mirror) == {"name": True, "connection": False}
    assert facts(origin)["not verified"] == f"{cargohold.registries}:2"
    assert facts(origin)["credential: me, a password"] == f"{config}:3"
    assert checks(origin) == {"name": True, "connection": True, "access": True, "manifest": True}


def test_never_shows_a_secret(cargohold: Cargohold, image: str) -> None:
    address = image.partition("/")[0]
    cargohold.home.write_docker({"auths": {address: {**entry("me", "hidden"), "identitytoken": "hidden2"}}})

    done = cargohold.run("doctor", image, HTTPS_PROXY="http://user:hidden3@proxy.example:3128")

    assert "a refresh token" in done.out
    assert "hidden" not in done.out + done.err


@pytest.mark.parametrize(
    ("suffix", "code", "error"),
    [
        pytest.param(":v9", 3, "MANIFEST_UNKNOWN", id="tag"),
        pytest.param(f"@{Digest.of(b'none')}", 3, "MANIFEST_UNKNOWN", id="digest"),
    ],
)
def test_ends_with_what_is_wrong_at_the_registry(
    cargohold: Cargohold, image: str, suffix: str, code: int, error: str
) -> None:
    (origin,) = examine(cargohold, image.removesuffix(":v1") + suffix, code=code)

    assert origin["checks"][-1]["code"] == error


def test_says_who_is_not_let_in(cargohold: Cargohold, closed_registry: str) -> None:
    config = cargohold.home.write_docker(auths(**{closed_registry: entry("me", "wrong")}))

    (origin,) = examine(cargohold, f"{closed_registry}/app", code=4)

    assert checks(origin) == {"name": True, "connection": True, "access": False, "manifest": False}
    assert f"the credentials of me from {config}:3" in origin["checks"][-1]["result"]


def test_says_which_credential_cannot_be_used(cargohold: Cargohold, closed_registry: str) -> None:
    cargohold.home.write_docker({"credsStore": "none-such"})

    (origin,) = examine(cargohold, f"{closed_registry}/app", code=4)

    assert "docker-credential-none-such" in facts(origin)["a credential that cannot be used"]


def test_says_which_proxy_is_on_the_way(cargohold: Cargohold) -> None:
    with lying(lambda _: reply(502)) as proxy:
        (origin,) = examine(cargohold, "r.invalid/app", code=1, HTTPS_PROXY=f"user:hidden@{proxy.address}")

    assert facts(origin)[f"proxy: {proxy.url}"] == "the environment"
    connection = next(check for check in origin["checks"] if check["name"] == "connection")
    assert connection["result"] == f"{proxy.address}, the proxy"
    assert [request.method for request in proxy.requests] == ["CONNECT", "CONNECT"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("authority"))


def test_says_who_vouches_for_a_server(cargohold: Cargohold, authority: Authority) -> None:
    with lying(lambda _: reply(404), authority.server_context()) as server:
        (origin,) = examine(
            cargohold, f"{server.address}/app", "--ca-file", str(authority.certificate), code=3
        )

    assert facts(origin)["trusted authority"] == str(authority.certificate)
    assert facts(origin)["its certificates"] == "the command line"
    assert "TLSv1.3, issued by test authority until" in origin["checks"][1]["result"]


def test_says_that_nobody_vouches_for_a_server(cargohold: Cargohold, authority: Authority) -> None:
    with lying(lambda _: reply(404), authority.server_context()) as server:
        (origin,) = examine(cargohold, f"{server.address}/app", code=1)

    assert origin["checks"][-1]["code"] == "UNAVAILABLE"
    assert origin["checks"][-1]["result"].startswith("its certificate: ")


def test_examines_all_that_a_short_name_may_mean(cargohold: Cargohold, image: str) -> None:
    address, _, rest = image.partition("/")
    cargohold.registries.write_text(f'unqualified-search-registries = ["127.0.0.1:1", "{address}"]\n')

    done = cargohold.run("doctor", "--json", rest)

    assert [each["reference"] for each in done.json["references"]] == [f"127.0.0.1:1/{rest}", image]
    assert done.code == 0, "the second has it"


def test_says_what_is_blocked(cargohold: Cargohold) -> None:
    cargohold.registries.write_text('[[registry]]\nlocation = "r.example"\nblocked = true\n')

    done = cargohold.run("doctor", "r.example/app")

    assert (done.code, done.errors) == (1, [f"error: r.example is blocked by {cargohold.registries}:1"])


def test_looks_at_the_machine(cargohold: Cargohold, tmp_path: Path) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()

    done = cargohold.run("--store", tmp_path / "store", "doctor", "--json")

    assert (done.code, done.err) == (0, "")
    findings = {each["name"]: each["result"] for each in done.json["findings"]}
    assert findings["store"].startswith(f"{tmp_path / 'store'}, on ")
    assert findings["store"].endswith(", not made yet")
    assert {"free space", "kernel", "openat2", "overlay", "overlay, rootless", "user ids", "runtimes"} < set(
        findings
    )
    assert not (tmp_path / "store").exists()
    assert Path("/proc/self/mountinfo").read_text() == mounts


def test_fails_where_there_can_be_no_store(cargohold: Cargohold, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")

    done = cargohold.run("doctor", CARGOHOLD_STORE=str(blocked / "store"))

    assert done.code == 1
    assert done.lines[0].startswith("FAILED store")
    assert "choose another with --store" in done.lines[0]


def test_writes_aligned_lines(cargohold: Cargohold, tmp_path: Path) -> None:
    lines = cargohold.run("--store", tmp_path, "doctor").lines

    width = len("overlay, rootless  ")
    assert all(line[width - 1] == " " and line[width] != " " for line in lines)
