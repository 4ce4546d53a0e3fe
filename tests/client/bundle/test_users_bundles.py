"""An ordinary user makes bundles and starts them with runc."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.bundle.images import needs_runc
from tests.client.unpack.overlays import needs_root
from tests.client.view.users import AS_USER, users_place

pytestmark = [needs_root, needs_runc]

CODE = """
import json, sys
from pathlib import Path
from client.bundle.errors import BundleRefused
from client.bundle.options import BundleOptions
from tests.client.bundle.images import bundle, directory, file

config, options = json.loads(sys.argv[2]), json.loads(sys.argv[3])
more = [directory("data", uid=1000, mode=0o750), file("data/seed", b"seed", uid=1000)]
try:
    bundle(Path(sys.argv[1]), config, *more, options=BundleOptions(**options))
except BundleRefused as error:
    print(error)
    sys.exit(1)
"""


def make(place: Path, config: str, options: str = "{}", prefix: list[str] = AS_USER) -> str:
    """Make and run a bundle; return what it said, or the error."""
    bundle = place / "bundle"
    made = subprocess.run(
        [*prefix, sys.executable, "-c", CODE, str(bundle), config, options],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if made.returncode:
        assert made.returncode == 1, made.stderr
        return made.stdout
    command = ["runc", "--root", str(place / "runc"), "run", "--bundle", str(bundle), f"user-{place.name}"]
    result = subprocess.run(
        [*prefix, *command], check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        pytest.param('{"Cmd": ["sh", "-c", "id -u; echo $$; pwd"]}', "0\n1\n/\n", id="command"),
        pytest.param('{"Cmd": ["pwd"], "WorkingDir": "/new"}', "/new\n", id="working-dir"),
        pytest.param('{"Cmd": ["id", "-u"], "User": "root"}', "0\n", id="root-in-groups"),
        pytest.param(
            '{"Cmd": ["sh", "-c", "cat /data/seed; echo x > /data/new; ls /data"], "Volumes": {"/data": {}}}',
            "seednew\nseed\n",
            id="volume",
        ),
    ],
)
def test_runs(config: str, expected: str) -> None:
    with users_place() as place:
        assert make(place, config) == expected


def test_runs_with_a_network_of_its_own_if_asked() -> None:
    code = CODE.replace("BundleOptions(**options)", "BundleOptions(network=Network.NONE)").replace(
        "import BundleOptions", "import BundleOptions, Network"
    )
    with users_place() as place:
        bundle = place / "bundle"
        command = '{"Cmd": ["busybox", "ifconfig", "-a"]}'
        subprocess.run([*AS_USER, sys.executable, "-c", code, str(bundle), command, "{}"], check=True)
        runc = ["runc", "--root", str(place / "runc"), "run", "--bundle", str(bundle), f"net-{place.name}"]
        found = subprocess.run([*AS_USER, *runc], check=True, stdout=subprocess.PIPE, text=True).stdout
    assert [line.split()[0] for line in found.splitlines() if line[:1].strip()] == ["lo"]


def test_says_what_to_do_for_an_image_of_another_user() -> None:
    with users_place() as place:
        said = make(place, '{"Cmd": ["id"], "User": "worker"}')
    assert said.startswith("the image runs as 1000:1001, and an ordinary user has no such ids to give")


@pytest.mark.skipif(shutil.which("newuidmap") is None, reason="newuidmap (uidmap) is not installed")
def test_takes_subordinate_ids_where_the_user_has_some(tmp_path: Path) -> None:
    """With tables of our own in place of the system's, in a mount namespace."""
    table = tmp_path / "table"
    table.write_text("someone:5:5\nnobody:200000:65536\n")
    script = f'mount --bind {table} /etc/subuid; mount --bind {table} /etc/subgid; exec "$@"'
    prefix = ["unshare", "-m", "sh", "-ec", script, "sh", *AS_USER]
    with users_place() as place:
        said = make(place, '{"Cmd": ["sh", "-c", "id -u; id -g"], "User": "worker"}', prefix=prefix)

    assert said == "1000\n1001\n"
