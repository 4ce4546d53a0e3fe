"""podman's registries.conf: mirrors, rewriting, blocking, short names."""

import pytest

from client.configuration.paths import Paths
from client.errors import Blocked, ConfigurationInvalid
from client.hosts import Hosts
from storage.oci.errors import NameInvalid
from storage.oci.names import ImageReference
from tests.client.machines import Machine, facts, urls


def test_tries_podmans_mirrors_first(machine: Machine) -> None:
    path = machine.registries(
        """\
[[registry]]
prefix = "docker.io"
location = "docker.io"

[[registry.mirror]]
location = "mirror.example/hub"

[[registry.mirror]]
location = "127.0.0.1:5000"
insecure = true
"""
    )

    first, second, origin = machine.route("ubuntu:22.04")

    assert urls([first, second, origin]) == [
        "https://mirror.example/v2/hub/library/ubuntu",
        "either://127.0.0.1:5000/v2/library/ubuntu",
        "https://registry-1.docker.io/v2/library/ubuntu",
    ]
    assert [each.is_mirror for each in (first, second, origin)] == [True, True, False]
    assert facts(first)[0] == ("a mirror of docker.io", f"{path}:5")
    assert ("not verified", f"{path}:8") in facts(second)
    assert (first.host.tls.verify, second.host.tls.verify) == (True, False)
    # A mirror gets its own credentials, never those of what it mirrors.
    assert (first.host.name, second.host.name) == ("mirror.example", "127.0.0.1:5000")


@pytest.mark.parametrize(
    ("lines", "tags", "digests"),
    [
        pytest.param("", True, True, id="all"),
        pytest.param('pull-from-mirror="digest-only"', False, True, id="digests"),
        pytest.param('pull-from-mirror="tag-only"', True, False, id="tags"),
    ],
)
def test_asks_a_mirror_for_what_it_serves(machine: Machine, lines: str, tags: bool, digests: bool) -> None:
    machine.registries(
        f'[[registry]]\nlocation="r.example"\n[[registry.mirror]]\nlocation="m.example"\n{lines}'
    )
    route = Hosts(machine.paths).route(ImageReference.parse("r.example/a"))

    assert len(route.for_tags()) == 1 + tags
    assert len(route.for_digests()) == 1 + digests
    assert route.origin.host.address == "r.example"


def test_asks_all_mirrors_by_digest_where_it_is_said_so(machine: Machine) -> None:
    machine.registries(
        '[[registry]]\nlocation="r.example"\nmirror-by-digest-only=true\n[[registry.mirror]]\nlocation="m.example"'
    )

    assert machine.route("r.example/a")[0].serves_tags is False


@pytest.mark.parametrize(
    ("prefix", "location", "text", "url"),
    [
        pytest.param("r.example", "x.example", "r.example/a", "x.example/v2/a", id="host"),
        pytest.param("r.example/a", "x.example/b", "r.example/a/c", "x.example/v2/b/c", id="path"),
        pytest.param("r.example/a", "x.example/b", "r.example/a:v1", "x.example/v2/b", id="repository"),
        pytest.param("r.example/a", "x.example/b", "r.example/ab", "r.example/v2/ab", id="not-a-part"),
        pytest.param("*.example", "x.test/all", "a.example/b", "x.test/v2/all/b", id="wildcard"),
        pytest.param("*.example", "", "a.example/b", "a.example/v2/b", id="wildcard-itself"),
        pytest.param("*.example", "x.test", "example/b", "registry-1.docker.io/v2/example/b", id="no-host"),
        pytest.param("r.example:5000", "x.test", "r.example:5000/b", "x.test/v2/b", id="port"),
        pytest.param("x.test", "docker.io/team", "x.test/a", "registry-1.docker.io/v2/team/a", id="hub"),
        pytest.param("r.example", "", "r.example/a", "r.example/v2/a", id="nothing"),
    ],
)  # fmt: skip
def test_rewrites(machine: Machine, prefix: str, location: str, text: str, url: str) -> None:
    machine.registries(f'[[registry]]\nprefix="{prefix}"\nlocation="{location}"\n')

    assert urls(machine.route(text)) == [f"https://{url}"]


def test_the_longest_prefix_counts(machine: Machine) -> None:
    machine.registries(
        '[[registry]]\nprefix="r.example/a"\nlocation="long.example"\n'
        '[[registry]]\nprefix="r.example"\nlocation="short.example"\n'
        '[[registry]]\nprefix="*.example"\nlocation="wild.example"\n'
    )

    assert [
        machine.route(text)[0].host.address for text in ("r.example/a/b", "r.example/b", "x.example/b")
    ] == [
        "long.example",
        "short.example",
        "wild.example",
    ]


def test_blocks(machine: Machine) -> None:
    path = machine.registries(
        '\n[[registry]]\nprefix = "docker.io"\nlocation = "docker.io"\nblocked = true\n'
    )

    with pytest.raises(Blocked, match=f"{path}:2"):
        machine.route("ubuntu")


def test_reads_what_is_added_to_the_main_file(machine: Machine) -> None:
    machine.registries('[[registry]]\nlocation="r.example"\nblocked=true\n')
    machine.write(
        "etc/containers/registries.conf.d/1.conf",
        '[[registry]]\nlocation="r.example"\n[[registry.mirror]]\nlocation="one.example"',
    )
    machine.write(
        "home/.config/containers/registries.conf.d/2.conf",
        '[[registry]]\nlocation="r.example"\n[[registry.mirror]]\nlocation="two.example"',
    )

    assert machine.route("r.example/a")[0].host.address == "two.example"


def test_the_users_file_stands_in_place_of_the_systems(machine: Machine) -> None:
    machine.registries('[[registry]]\nlocation="r.example"\nblocked=true\n')
    machine.write("home/.config/containers/registries.conf", "")

    assert len(machine.route("r.example/a")) == 1


def test_reads_the_file_that_the_environment_names(machine: Machine) -> None:
    path = machine.write("mine.conf", '[[registry]]\nlocation="r.example"\nblocked=true\n')
    paths = Paths({"CONTAINERS_REGISTRIES_CONF": str(path), "HOME": "/"}, machine.root / "etc")

    with pytest.raises(Blocked):
        Hosts(paths).route(ImageReference.parse("r.example/a"))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("[[registry]]\n[[registry.mirror]]\n", "1", id="no-location"),
        pytest.param('[[registry]]\nlocation="a"\n[[registry.mirror]]\n', "3", id="mirror-without-location"),
        pytest.param('[[registry]]\nlocation="a"\ninsecure="yes"\n', "3", id="no-boolean"),
        pytest.param('[[registry]]\nlocation=5\n', "2", id="no-string"),
        pytest.param('registry = "x"\n', "1", id="no-tables"),
        pytest.param(
            '[[registry]]\nlocation="a"\n[[registry.mirror]]\nlocation="b"\npull-from-mirror="x"\n',
            "5",
            id="unknown-pull",
        ),
        pytest.param(
            '[[registry]]\nlocation="r.example"\n[[registry.mirror]]\nlocation="A/B:x"\n', "3", id="no-name"
        ),
        pytest.param("[[registry]\n", "", id="no-toml"),
    ],
)  # fmt: skip
def test_names_the_line_that_is_wrong(machine: Machine, text: str, line: str) -> None:
    path = machine.registries(text)

    with pytest.raises(ConfigurationInvalid, match=f"{path}:{line}"):
        machine.route("r.example/a")


def test_leaves_the_first_version_alone(machine: Machine) -> None:
    machine.registries("[registries.search]\nregistries = ['docker.io']\n")

    assert len(machine.route("ubuntu")) == 1


# Short names


@pytest.mark.parametrize(
    ("configuration", "text", "found"),
    [
        pytest.param("", "ubuntu", ["docker.io/library/ubuntu:latest"], id="dockers"),
        pytest.param("", "team/app:v1", ["docker.io/team/app:v1"], id="dockers-with-a-path"),
        pytest.param(
            'unqualified-search-registries=["a.example","docker.io"]',
            "ubuntu:v1",
            ["a.example/ubuntu:v1", "docker.io/library/ubuntu:v1"],
            id="search",
        ),
        pytest.param(
            '[aliases]\n"ubuntu"="a.example/u"', "ubuntu:v1", ["a.example/u:v1"], id="alias-with-a-tag"
        ),
        pytest.param(
            '[aliases]\n"a/b"="a.example/u"',
            f"a/b:v1@sha256:{'a' * 64}",
            [f"a.example/u:v1@sha256:{'a' * 64}"],
            id="alias-with-a-digest",
        ),
        pytest.param(
            'unqualified-search-registries=["a.example"]',
            "docker.io/ubuntu",
            ["docker.io/library/ubuntu:latest"],
            id="not-a-short-one",
        ),
        pytest.param(
            'unqualified-search-registries=["a.example"]',
            "localhost/x",
            ["localhost/x:latest"],
            id="localhost",
        ),
    ],
)
def test_expands(machine: Machine, configuration: str, text: str, found: list[str]) -> None:
    machine.registries(configuration)

    assert machine.expand(text) == found


def test_does_not_guess_where_it_is_forbidden(machine: Machine) -> None:
    path = machine.registries(
        'short-name-mode="enforcing"\nunqualified-search-registries=["a.example","b.example"]'
    )

    with pytest.raises(NameInvalid, match=f"{path}:2"):
        machine.expand("ubuntu")
