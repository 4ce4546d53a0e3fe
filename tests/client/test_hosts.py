"""Who answers for a reference, how, and which file says so: all dialects in one model."""

from pathlib import Path

import pytest

from client.endpoints import Overrides, Scheme
from client.errors import ConfigurationInvalid
from client.hosts import Hosts
from client.tls import Tls
from tests.client.machines import Machine, facts, urls


@pytest.mark.parametrize(
    ("text", "url"),
    [
        pytest.param("ubuntu", "https://registry-1.docker.io/v2/library/ubuntu", id="docker-hub"),
        pytest.param("quay.io/a/b", "https://quay.io/v2/a/b", id="another"),
        pytest.param("r.example:5000/a", "https://r.example:5000/v2/a", id="port"),
        pytest.param("localhost:5000/a", "either://localhost:5000/v2/a", id="localhost"),
        pytest.param("127.0.0.1:5000/a", "either://127.0.0.1:5000/v2/a", id="loopback"),
        pytest.param("[::1]:5000/a", "either://[::1]:5000/v2/a", id="ipv6-loopback"),
        pytest.param("10.0.0.1:5000/a", "https://10.0.0.1:5000/v2/a", id="private"),
    ],
)
def test_goes_to_the_registry_itself(machine: Machine, text: str, url: str) -> None:
    (endpoint,) = machine.route(text)

    assert urls([endpoint]) == [url]
    assert (endpoint.is_mirror, endpoint.host.tls) == (False, Tls())
    assert {source for _, source in facts(endpoint)} == {"built in"}


def test_keeps_the_name_that_credentials_have(machine: Machine) -> None:
    (endpoint,) = machine.route("ubuntu")

    assert endpoint.host.name == "docker.io"


def test_takes_flags_for_the_registry_that_is_named(machine: Machine) -> None:
    machine.registries('[[registry]]\nprefix="r.example"\n[[registry.mirror]]\nlocation="m.example"\n')
    ca, pair = Path("/ca"), (Path("/c"), Path("/k"))

    mirror, origin = machine.route("r.example/a", Overrides(False, False, (ca,), (pair,)))

    assert mirror.host.tls == Tls()
    assert origin.host.tls == Tls(False, (ca,), (pair,))
    assert ("not verified", "the command line") in facts(origin)
    assert machine.route("r.example/a", Overrides(plain_http=True))[1].host.scheme is Scheme.HTTP


# certs.d


def test_takes_certificates_from_the_first_directory_with_the_host(machine: Machine) -> None:
    for name in ("ca.crt", "client.cert", "client.key"):
        machine.write(f"etc/containers/certs.d/r.example:5000/{name}")
    machine.write("etc/docker/certs.d/r.example:5000/other.crt")
    machine.write("etc/docker/certs.d/docker.io/hub.crt")
    directory = machine.root / "etc/containers/certs.d/r.example:5000"

    (endpoint,) = machine.route("r.example:5000/a")

    assert endpoint.host.tls == Tls(
        True, (directory / "ca.crt",), ((directory / "client.cert", directory / "client.key"),)
    )
    assert ("its certificates", str(directory)) in facts(endpoint)
    assert machine.route("ubuntu")[0].host.tls.ca_files[0].name == "hub.crt"


def test_misses_the_key_of_a_client_certificate(machine: Machine) -> None:
    machine.write("etc/docker/certs.d/r.example/client.cert")

    with pytest.raises(ConfigurationInvalid, match=r"client\.key"):
        machine.route("r.example/a")


def test_net_08_verifies_other_hosts_as_registries_of_that_name(machine: Machine) -> None:
    machine.docker('{"insecure-registries": ["auth.example"]}')
    machine.write("etc/docker/certs.d/cdn.example/ca.crt")
    hosts = Hosts(machine.paths)

    assert hosts.tls("auth.example").verify is False
    assert hosts.tls("other.example") == Tls()
    assert [path.name for path in hosts.tls("cdn.example").ca_files] == ["ca.crt"]


# All at once


def test_joins_the_dialects_and_asks_each_mirror_once(machine: Machine) -> None:
    machine.registries(
        '[[registry]]\nprefix="docker.io"\nlocation="docker.io"\n'
        '[[registry.mirror]]\nlocation="one.example"\n[[registry.mirror]]\nlocation="two.example"\n'
    )
    machine.containerd("docker.io", '[host."https://two.example"]\n[host."https://three.example"]\n')
    machine.docker('{"registry-mirrors": ["https://three.example", "https://four.example"]}')

    assert [each.host.address for each in machine.route("ubuntu")] == [
        "one.example",
        "two.example",
        "three.example",
        "four.example",
        "registry-1.docker.io",
    ]


def test_a_host_called_insecure_is_so_as_a_mirror(machine: Machine) -> None:
    machine.registries('[[registry]]\nlocation="m.example"\ninsecure=true\n')
    machine.docker('{"registry-mirrors": ["https://m.example"]}')

    mirror, _ = machine.route("ubuntu")

    assert (mirror.host.scheme, mirror.host.tls.verify) == (Scheme.HTTPS, False)
