"""containerd's hosts.toml and docker's daemon.json."""

import pytest

from client.endpoints import Scheme
from client.errors import ConfigurationInvalid
from client.tls import Tls
from tests.client.machines import Machine, facts, urls


def test_tries_containerds_hosts_first(machine: Machine) -> None:
    path = machine.containerd(
        "docker.io",
        """\
server = "https://registry-1.docker.io"

[host."http://127.0.0.1:5300"]
  capabilities = ["pull"]

[host."https://m.example/cache"]
  override_path = true
  ca = "ca.crt"
  client = [["c.crt", "c.key"], "both.pem"]
  skip_verify = true
  [host."https://m.example/cache".header]
    x-key = ["one", "two"]

[host."https://p.example/sub"]
""",
    )
    directory = path.parent

    first, second, third, origin = machine.route("ubuntu")

    assert urls([first, second, third, origin]) == [
        "http://127.0.0.1:5300/v2/library/ubuntu",
        "https://m.example/cache/library/ubuntu",
        "https://p.example/sub/v2/library/ubuntu",
        "https://registry-1.docker.io/v2/library/ubuntu",
    ]
    assert [each.host.namespace for each in (first, second, third, origin)] == ["docker.io"] * 3 + [None]
    assert (first.serves_tags, first.serves_digests) == (False, True)
    assert second.host.tls == Tls(
        verify=False,
        ca_files=(directory / "ca.crt",),
        client_certificates=(
            (directory / "c.crt", directory / "c.key"),
            (directory / "both.pem", directory / "both.pem"),
        ),
    )
    assert second.host.headers == {"x-key": "one, two"}
    assert "one" not in repr(second)
    assert facts(first)[0] == ("a mirror of docker.io", f"{path}:3")
    assert facts(second)[0] == ("a mirror of docker.io", f"{path}:6")


@pytest.mark.parametrize("directory", ["r.example:5000", "r.example_5000_", "_default"])
def test_finds_the_directory_of_a_host(machine: Machine, directory: str) -> None:
    machine.containerd(directory, '[host."https://m.example"]\n')

    assert machine.route("r.example:5000/a")[0].host.address == "m.example"


def test_goes_to_the_server_in_the_registrys_place(machine: Machine) -> None:
    path = machine.containerd("r.example", 'server = "https://x.example"\nskip_verify = true\n')

    (origin,) = machine.route("r.example/a")

    assert (origin.host.address, origin.host.namespace, origin.host.tls.verify) == (
        "x.example",
        "r.example",
        False,
    )
    assert facts(origin)[0] == ("in the registry's place", f"{path}:1")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('[host."ftp://x"]', id="scheme"),
        pytest.param('[host."https://user:pw@x"]', id="user"),
        pytest.param('[host."https://x"]\ncapabilities=["everything"]', id="capability"),
        pytest.param('[host."https://x"]\nclient=[["a"]]', id="half-a-pair"),
        pytest.param('[host."https://x"]\nclient=5', id="client-is-a-number"),
        pytest.param('[host]\n"https://x"=5', id="no-table"),
        pytest.param('[host."https://x".header]\nX-A="é"', id="header-beyond-ascii"),
        pytest.param('[host."https://x".header]\nX-A="a\\nX-B: b"', id="header-of-two-lines"),
        pytest.param('[host."https://x".header]\n"X A"="a"', id="header-without-a-name"),
    ],
)
def test_names_the_hosts_toml_that_is_wrong(machine: Machine, text: str) -> None:
    path = machine.containerd("r.example", text)

    with pytest.raises(ConfigurationInvalid, match=f"{path}:") as caught:
        machine.route("r.example/a")

    assert "pw" not in caught.value.message


# daemon.json


def test_tries_dockers_mirrors_for_docker_hub_alone(machine: Machine) -> None:
    path = machine.docker(
        '{\n "registry-mirrors": [\n  "https://m.example",\n  "http://127.0.0.1:5000/"\n ]\n}'
    )

    first, second, _ = machine.route("ubuntu")

    assert urls([first, second]) == [
        "https://m.example/v2/library/ubuntu",
        "http://127.0.0.1:5000/v2/library/ubuntu",
    ]
    assert facts(first)[0] == ("a mirror of docker.io", f"{path}:3")
    assert facts(second)[0] == ("a mirror of docker.io", f"{path}:4")
    assert len(machine.route("quay.io/a/b")) == 1


@pytest.mark.parametrize(
    ("entry", "text", "is_insecure"),
    [
        pytest.param("r.example:5000", "r.example:5000/a", True, id="host"),
        pytest.param("http://r.example:5000", "r.example:5000/a", True, id="url"),
        pytest.param("r.example", "r.example:5000/a", False, id="other-port"),
        pytest.param("10.0.0.0/8", "10.1.1.1:5000/a", True, id="network"),
        pytest.param("10.0.0.0/8", "11.1.1.1:5000/a", False, id="other-network"),
        pytest.param("fd00::/8", "[fd00::1]:5000/a", True, id="ipv6-network"),
    ],
)
def test_knows_dockers_insecure_registries(
    machine: Machine, entry: str, text: str, is_insecure: bool
) -> None:
    path = machine.docker(f'{{"insecure-registries": ["{entry}"]}}')

    (endpoint,) = machine.route(text)

    assert endpoint.host.tls.verify is not is_insecure
    assert endpoint.host.scheme is (Scheme.EITHER if is_insecure else Scheme.HTTPS)
    assert (("not verified", f"{path}:1") in facts(endpoint)) is is_insecure


def test_a_rootless_docker_comes_first(machine: Machine) -> None:
    machine.docker('{"registry-mirrors": ["https://m.example"]}')
    machine.write("home/.config/docker/daemon.json", "{}")

    assert len(machine.route("ubuntu")) == 1


@pytest.mark.parametrize("text", ['{"registry-mirrors": ["x"]}', '{"registry-mirrors": 5}', "{", "[]"])
def test_names_the_daemon_json_that_is_wrong(machine: Machine, text: str) -> None:
    path = machine.docker(text)

    with pytest.raises(ConfigurationInvalid, match=str(path)):
        machine.route("ubuntu")
