"""Reading image configurations."""

import json
from typing import Any

import pytest

from storage.oci.digest import Digest
from storage.oci.errors import ManifestInvalid
from storage.oci.image_config import HistoryEntry, ImageConfig, chain_ids
from storage.oci.platform import Platform

A, B, C = (Digest.of(text) for text in (b"a", b"b", b"c"))


def parse(**members: Any) -> ImageConfig:
    rootfs = {"type": "layers", "diff_ids": [str(A)]}
    document = {"architecture": "amd64", "os": "linux", "rootfs": rootfs, **members}
    return ImageConfig.parse(json.dumps(document).encode())


def test_reads_what_the_specification_names() -> None:
    config = parse(
        created="2026-01-02T03:04:05Z",
        author="me",
        variant="v3",
        config={
            "User": "1000:100",
            "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
            "Env": ["PATH=/bin"],
            "Entrypoint": ["/init"],
            "Cmd": ["serve"],
            "Volumes": {"/data": {}},
            "WorkingDir": "/srv",
            "Labels": {"a": "b"},
            "StopSignal": "SIGINT",
            "Healthcheck": {"Test": ["NONE"]},
        },
        history=[{"created_by": "RUN x", "empty_layer": True}, {"comment": "c"}],
    )

    execution = config.execution
    assert config.platform == Platform("linux", "amd64", "v3")
    assert (config.created, config.author) == ("2026-01-02T03:04:05Z", "me")
    assert (execution.user, execution.working_dir, execution.stop_signal) == ("1000:100", "/srv", "SIGINT")
    assert execution.exposed_ports == ("80/tcp", "53/udp")
    assert (execution.entrypoint, execution.cmd, execution.env) == (("/init",), ("serve",), ("PATH=/bin",))
    assert (execution.volumes, execution.labels) == (("/data",), {"a": "b"})
    assert config.history == (
        HistoryEntry(created_by="RUN x", is_empty=True),
        HistoryEntry(comment="c"),
    )


def test_takes_the_nulls_that_go_programs_write() -> None:
    nothing = dict.fromkeys(("Env", "Cmd", "Entrypoint", "Labels", "Volumes", "ExposedPorts", "User"))

    assert parse(config=nothing, history=None).execution == parse().execution


def test_names_a_stack_of_layers_by_all_that_is_in_it() -> None:
    first, second, third = chain_ids((A, B, C))

    assert first == A
    assert second == Digest.of(f"{A} {B}".encode())
    assert third == Digest.of(f"{second} {C}".encode())
    assert chain_ids(()) == ()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        pytest.param({"rootfs": None}, "not of the type", id="no-rootfs"),
        pytest.param({"rootfs": {"type": "tree", "diff_ids": []}}, "not of the type", id="another-rootfs"),
        pytest.param({"rootfs": {"type": "layers", "diff_ids": ["md5:1"]}}, "diff_ids", id="bad-digest"),
        pytest.param({"rootfs": {"type": "layers", "diff_ids": "x"}}, "not an array", id="no-array"),
        pytest.param({"config": []}, "not an object", id="config-is-an-array"),
        pytest.param({"config": {"Env": [1]}}, "array of strings", id="env-of-numbers"),
        pytest.param({"config": {"Volumes": ["/a"]}}, "not an object", id="volumes-as-an-array"),
        pytest.param({"config": {"env": ["A=1"]}}, "some readers take", id="another-case"),
        pytest.param({"history": ["x"]}, "no object", id="history-of-texts"),
        pytest.param({"os": 7}, "not a string", id="os-is-a-number"),
    ],
)
def test_refuses_what_two_programs_would_read_differently(members: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestInvalid, match=message):
        parse(**members)
