"""image-spec conversion.md, row by row; that a runtime takes it is test_run.py's."""

from pathlib import Path
from typing import Any

import pytest

from client.bundle.configuration import annotations, configuration, environment
from client.bundle.errors import BundleRefused
from client.bundle.options import Bind, BundleOptions, Network, Volumes
from client.bundle.user_namespace import IdMapping, UserNamespace
from client.bundle.users import User
from tests.client.bundle.images import image

ROOT = User(0, 0, (), "/root")
AS_ROOT = {"user_namespace": None}


def converted(
    config: dict[str, object] | None = None, user: User = ROOT, **options: object
) -> dict[str, Any]:
    parsed = BundleOptions(**{**AS_ROOT, **options})  # type: ignore[arg-type]  # passed on
    return configuration(image({"Cmd": ["x"], **(config or {})}), user, parsed, {})


def test_annotates_with_all_the_image_says() -> None:
    found = annotations(
        image(
            {"StopSignal": "SIGINT", "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Labels": {"a": "b"}},
            author="Ann",
            created="2026-01-02T03:04:05Z",
            variant="v2",
            **{"os.version": "1.2", "os.features": ["f", "g"]},
        )
    )

    assert found == {
        "org.opencontainers.image.os": "linux",
        "org.opencontainers.image.architecture": "amd64",
        "org.opencontainers.image.variant": "v2",
        "org.opencontainers.image.os.version": "1.2",
        "org.opencontainers.image.os.features": "f,g",
        "org.opencontainers.image.author": "Ann",
        "org.opencontainers.image.created": "2026-01-02T03:04:05Z",
        "org.opencontainers.image.stopSignal": "SIGINT",
        "org.opencontainers.image.exposedPorts": "53/udp,80/tcp",
        "a": "b",
    }


def test_a_label_wins_over_a_member() -> None:
    labels = {"org.opencontainers.image.os": "mine", "org.opencontainers.image.author": ""}

    found = annotations(image({"Labels": labels}, author="Ann"))

    assert found["org.opencontainers.image.os"] == "mine"
    assert found["org.opencontainers.image.author"] == ""


def test_says_nothing_of_what_the_image_does_not_say() -> None:
    assert annotations(image()).keys() == {
        "org.opencontainers.image.os",
        "org.opencontainers.image.architecture",
    }


@pytest.mark.parametrize(
    ("variables", "given", "terminal", "expected"),
    [
        pytest.param([], (), False, ["PATH=DEFAULT", "HOME=/root"], id="defaults"),
        pytest.param([], (), True, ["PATH=DEFAULT", "HOME=/root", "TERM=xterm"], id="terminal"),
        pytest.param(
            ["PATH=", "HOME=/h", "TERM=t", "A=1", "A=2"], (), True,
            ["PATH=", "HOME=/h", "TERM=t", "A=1", "A=2"], id="verbatim",
        ),
        pytest.param(
            ["A=1", "PATH=/p", "A=2"], ("A=3", "HOME=", "B="), False,
            ["PATH=/p", "A=3", "HOME=", "B="], id="the-callers",
        ),
    ],
)  # fmt: skip
def test_sets_variables(
    variables: list[str], given: tuple[str, ...], terminal: bool, expected: list[str]
) -> None:
    options = BundleOptions(env=given, terminal=terminal)

    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert environment(variables, ROOT, options) == [line.replace("DEFAULT", path) for line in expected]


def test_refuses_an_image_without_a_command() -> None:
    with pytest.raises(BundleRefused, match="no command to run"):
        configuration(image(), ROOT, BundleOptions(), {})
    with pytest.raises(BundleRefused, match="no command to run"):
        configuration(image({"Cmd": ["x"]}), ROOT, BundleOptions(entrypoint=()), {})


def test_copies_the_user() -> None:
    assert converted(user=User(5, 6, (7, 8)))["process"]["user"] == {
        "uid": 5,
        "gid": 6,
        "additionalGids": [7, 8],
    }


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        pytest.param(None, [{"type": "network"}], id="default"),
        pytest.param(Network.NONE, [{"type": "network"}], id="none"),
        pytest.param(Network.HOST, [], id="host"),
        pytest.param(Path("/run/netns/x"), [{"type": "network", "path": "/run/netns/x"}], id="path"),
    ],
)
def test_chooses_the_network(network: object, expected: list[object]) -> None:
    namespaces = converted(network=network)["linux"]["namespaces"]

    assert [namespace for namespace in namespaces if namespace["type"] == "network"] == expected
    kinds = {namespace["type"] for namespace in namespaces}
    assert {"pid", "ipc", "uts", "mount", "cgroup"} <= kinds
    assert "user" not in kinds


NAMESPACE = UserNamespace((IdMapping(0, 1000, 1),), (IdMapping(0, 1001, 1),))


def test_makes_an_ordinary_users_container() -> None:
    """As `runc spec --rootless`: no cgroups, no network, no groups to choose."""
    found = converted(user=User(0, 0, (10,)), user_namespace=NAMESPACE)

    linux = found["linux"]
    assert [namespace["type"] for namespace in linux["namespaces"]] == ["pid", "ipc", "uts", "mount", "user"]
    assert linux["uidMappings"] == [{"containerID": 0, "hostID": 1000, "size": 1}]
    assert linux["gidMappings"] == [{"containerID": 0, "hostID": 1001, "size": 1}]
    assert "resources" not in linux
    assert found["process"]["user"] == {"uid": 0, "gid": 0}
    mounts = {mount["destination"]: mount for mount in found["mounts"]}
    assert mounts["/sys"]["options"] == ["rbind", "nosuid", "noexec", "nodev", "ro"]
    assert not [option for mount in mounts.values() for option in mount["options"] if "gid=" in option]


@pytest.mark.parametrize("place", ["/", "", "/.", "/a/.."])
def test_refuses_a_volume_in_place_of_the_root(place: str) -> None:
    with pytest.raises(BundleRefused, match="in place of its root"):
        converted({"Volumes": {place: {}}}, volumes=Volumes.TMPFS)


def test_volumes_stay_below_the_root() -> None:
    mounts = converted({"Volumes": {"/../../data/": {}, "//b//c": {}}}, volumes=Volumes.TMPFS)["mounts"]

    assert [mount["destination"] for mount in mounts[-2:]] == ["/b/c", "/data"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"env": ("A",)}, "NAME=VALUE", id="env-without-value"),
        pytest.param({"env": ("=x",)}, "NAME=VALUE", id="env-without-name"),
        pytest.param({"binds": (Bind(Path("/etc"), "etc"),)}, "not an absolute path", id="relative"),
        pytest.param({"binds": (Bind(Path("/etc"), "/"),)}, "not an absolute path", id="over-the-root"),
        pytest.param({"binds": (Bind(Path("/etc"), "/a/.."),)}, "not an absolute path", id="over-it-too"),
        pytest.param({"binds": (Bind(Path("/none"), "/a"),)}, "nothing to bind at /none", id="missing"),
        pytest.param({"binds": (Bind(Path("etc"), "/a"),)}, "nothing to bind at etc", id="relative-source"),
    ],
)
def test_refuses_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleRefused, match=message):
        BundleOptions(**options)


@pytest.mark.parametrize(
    ("config", "options"),
    [
        pytest.param({"Env": ["A=\0"]}, {}, id="NUL-in-env"),
        pytest.param({"Cmd": ["a\0b"]}, {}, id="NUL-in-command"),
        pytest.param({"WorkingDir": "/\0"}, {}, id="NUL-in-working-dir"),
        pytest.param({"Volumes": {"/a\0": {}}}, {"volumes": Volumes.TMPFS}, id="NUL-in-volume"),
        pytest.param({}, {"command": ("\udcff",)}, id="no-utf-8-in-command"),
        pytest.param({}, {"env": ("A=\udcff",)}, id="no-utf-8-in-env"),
        pytest.param({}, {"binds": (Bind(Path("/etc"), "/\udcff"),)}, id="no-utf-8-in-bind"),
    ],
)
def test_refuses_what_a_process_cannot_be_given(config: dict[str, object], options: dict[str, Any]) -> None:
    with pytest.raises(BundleRefused, match="NUL, or that is not UTF-8"):
        converted(config, **options)


def test_refuses_an_image_of_another_system() -> None:
    windows = image({"Cmd": ["x"]}, os="windows")

    with pytest.raises(BundleRefused, match="the image is for windows"):
        configuration(windows, ROOT, BundleOptions(), {})
