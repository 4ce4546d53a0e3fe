"""runc starts the bundles."""

import os
import pty
import resource
import subprocess
from pathlib import Path

import pytest

from client.bundle.options import Bind, BundleOptions, Network, Volumes
from tests.client.bundle.images import bundle, needs_runc, output, run
from tests.client.unpack.archives import directory, file, symlink
from tests.client.unpack.overlays import needs_root

pytestmark = [needs_root, needs_runc]


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


@pytest.mark.parametrize(
    ("config", "options", "expected"),
    [
        pytest.param({"Cmd": ["busybox", "echo", "cmd"]}, {}, "cmd\n", id="cmd"),
        pytest.param(
            {"Entrypoint": ["busybox", "echo"], "Cmd": ["a", "b"]}, {}, "a b\n", id="entrypoint-and-cmd"
        ),
        pytest.param(
            {"Entrypoint": ["busybox", "echo"], "Cmd": ["a"]}, {"command": ("c",)}, "c\n", id="other-command"
        ),
        pytest.param(
            {"Entrypoint": ["none"], "Cmd": ["a"]},
            {"entrypoint": ("busybox", "echo", "e")},
            "e\n",
            id="other-entrypoint",
        ),
        pytest.param(
            {"Cmd": shell('echo "$A,$B,$PATH,$HOME"'), "Env": ["A=1", "B=2=3"]},
            {"env": ("A=9",)},
            "9,2=3,/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin,/root\n",
            id="env",
        ),
        pytest.param({"Cmd": ["pwd"], "WorkingDir": "/new/dir"}, {}, "/new/dir\n", id="working-dir-made"),
        pytest.param({"Cmd": ["pwd"], "WorkingDir": "etc"}, {}, "/etc\n", id="working-dir-relative"),
        pytest.param({"Cmd": ["pwd"], "WorkingDir": "/x"}, {"working_dir": "/bin"}, "/bin\n", id="other-dir"),
        pytest.param(
            {"Cmd": shell('echo "$(id -u) $(id -g) $(id -G) $HOME"'), "User": "worker"},
            {},
            "1000 1001 1001 10 29 50 /home/worker\n",
            id="user-by-name",
        ),
        pytest.param(
            {"Cmd": shell("id -u; id -G"), "User": "1234"}, {}, "1234\n0\n", id="user-unknown-number"
        ),
        pytest.param(
            {"Cmd": shell("id -u; id -G"), "User": "worker:audio"}, {}, "1000\n29\n", id="user-and-group"
        ),
        pytest.param({"Cmd": shell("id -u"), "User": "worker"}, {"user": "0"}, "0\n", id="other-user"),
    ],
)
def test_runs(tmp_path: Path, config: dict[str, object], options: dict[str, object], expected: str) -> None:
    place = bundle(tmp_path / "bundle", config, options=BundleOptions(**options))  # type: ignore[arg-type]  # passed on

    assert output(place) == expected


def test_is_kept_apart_from_the_host(tmp_path: Path) -> None:
    script = """
        echo $$ $(busybox hostname)
        ls /sys/class/net
        cat /proc/kcore | busybox wc -c
        echo 1 2>/dev/null > /proc/sysrq-trigger || echo closed
        busybox mknod /sda b 8 0 && cat /sda 2>/dev/null || echo no device
        ls /dev | busybox grep -E 'sd|vd|mem|fuse|kmsg' || echo no more devices
        ulimit -n
    """
    place = bundle(tmp_path / "bundle", {"Cmd": shell(script)})

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert output(place).splitlines() == [
        "1 cargohold",
        "lo",
        "0",
        "closed",
        "no device",
        "no more devices",
        str(min(hard, 1048576)),
    ]


def test_has_dockers_capabilities_and_gains_none(tmp_path: Path) -> None:
    """None is inheritable or ambient: CVE-2022-24769."""
    command = ["busybox", "grep", "-E", "NoNewPrivs|^Cap", "/proc/self/status"]

    assert output(bundle(tmp_path / "bundle", {"Cmd": command})).split() == [
        *["CapInh:", "0000000000000000", "CapPrm:", "00000000a80425fb", "CapEff:", "00000000a80425fb"],
        *["CapBnd:", "00000000a80425fb", "CapAmb:", "0000000000000000", "NoNewPrivs:", "1"],
    ]


def test_has_the_capabilities_it_is_given(tmp_path: Path) -> None:
    config: dict[str, object] = {"Cmd": ["busybox", "grep", "-E", "CapEff|NoNew", "/proc/self/status"]}
    options = BundleOptions(capabilities=("CAP_KILL",), new_privileges=True)

    assert output(bundle(tmp_path / "bundle", config, options=options)).split() == [
        *["CapEff:", "0000000000000020", "NoNewPrivs:", "0"]
    ]


def test_other_users_start_without_capabilities(tmp_path: Path) -> None:
    place = bundle(
        tmp_path / "bundle", {"Cmd": ["busybox", "grep", "CapEff", "/proc/self/status"], "User": "5"}
    )

    assert output(place) == "CapEff:\t0000000000000000\n"


def test_uses_the_hosts_network_if_asked(tmp_path: Path) -> None:
    options = BundleOptions(network=Network.HOST)
    place = bundle(tmp_path / "bundle", {"Cmd": ["ls", "/sys/class/net"]}, options=options)

    assert set(output(place).split()) == set(os.listdir("/sys/class/net"))


def test_keeps_the_root_read_only_if_asked(tmp_path: Path) -> None:
    script = "echo x > /file || echo refused; echo y > /data/file && cat /data/file"
    place = bundle(
        tmp_path / "bundle",
        {"Cmd": shell(script), "Volumes": {"/data": {}}},
        options=BundleOptions(read_only_root=True),
    )

    result = run(place)
    assert (result.stdout, result.returncode) == ("refused\ny\n", 0), result.stderr


VOLUME = [
    directory("data", mode=0o1770, uid=1000, gid=1001),
    file("data/seed", b"seed\n", mode=0o640, uid=1000),
    symlink("alias", "data"),
]


def test_keeps_volumes_in_the_bundle(tmp_path: Path) -> None:
    """Filled with what the image has there, owners and modes too; through links; kept from run to run."""
    script = (
        "stat -c '%a %u %g' /data /data/seed /fresh; cat /alias/seed; "
        "echo new >> /data/seed; echo f > /fresh/f"
    )
    place = bundle(
        tmp_path / "bundle", {"Cmd": shell(script), "Volumes": {"/alias": {}, "/fresh/": {}}}, *VOLUME
    )

    assert output(place) == "1770 1000 1001\n640 1000 0\n755 0 0\nseed\n"
    assert (place / "volumes/0/seed").read_text() == "seed\nnew\n"
    assert (place / "volumes/1/f").read_text() == "f\n"
    assert (place / "rootfs/data/seed").read_text() == "seed\n"
    assert os.listdir(place / "rootfs/fresh") == []
    assert output(place).endswith("seed\nnew\n")


@pytest.mark.parametrize("volumes", [Volumes.TMPFS, Volumes.IGNORE])
def test_does_other_things_for_volumes_if_asked(tmp_path: Path, volumes: Volumes) -> None:
    config: dict[str, object] = {
        "Cmd": shell("busybox touch /data/new; ls /data"),
        "Volumes": {"/data": {}},
    }
    place = bundle(tmp_path / "bundle", config, *VOLUME, options=BundleOptions(volumes=volumes))

    expected = {Volumes.TMPFS: ("new\n", ["seed"]), Volumes.IGNORE: ("new\nseed\n", ["new", "seed"])}
    assert (output(place), sorted(os.listdir(place / "rootfs/data"))) == expected[volumes]
    assert not (place / "volumes").exists()


def test_binds(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "inner").mkdir(parents=True)
    (outside / "f").write_text("outside\n")
    binds = (
        Bind(outside / "inner", "/data/inner"),
        Bind(outside, "/data", read_only=True),
        Bind(outside / "f", "/etc/one"),
    )
    script = "cat /data/f /etc/one; echo x > /data/f || echo refused; echo y > /data/inner/g"
    place = bundle(
        tmp_path / "bundle",
        {"Cmd": shell(script), "Volumes": {"/data": {}}},
        options=BundleOptions(binds=binds),
    )

    assert output(place) == "outside\noutside\nrefused\n"
    assert (outside / "inner/g").read_text() == "y\n"
    assert (outside / "f").read_text() == "outside\n"


def test_passes_on_how_the_process_ended(tmp_path: Path) -> None:
    assert run(bundle(tmp_path / "bundle", {"Cmd": shell("exit 42")})).returncode == 42


def test_has_a_terminal_if_asked(tmp_path: Path) -> None:
    place = bundle(
        tmp_path / "bundle",
        {"Cmd": shell('busybox tty; echo "$TERM"')},
        options=BundleOptions(terminal=True),
    )
    ours, theirs = pty.openpty()
    try:
        command = ["runc", "--root", f"{place}-runc", "run", "--bundle", str(place), tmp_path.name]
        subprocess.run(command, check=True, stdin=theirs, stdout=theirs, stderr=theirs)
        said = os.read(ours, 4096).decode()
    finally:
        os.close(ours)
        os.close(theirs)

    assert said.split() == ["/dev/pts/0", "xterm"]
