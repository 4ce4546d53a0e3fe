"""The audit log: who did what, before the answer, and never with what they proved it."""

import base64
import json
import logging
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry.audit import AuditFile, Event, Outcome, open_audit
from registry.settings import Settings
from storage.oci.digest import Digest
from tests.registry.conftest import serving
from tests.registry.pushing import OCTETS, Repository, with_digest
from tests.registry.test_server import CARGOHOLD, answers, free_port, running

CANARY = "canary-3f9c"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def told(path: Path) -> list[dict[str, Any]]:
    """Return the events without what differs between runs."""
    return [
        {key: value for key, value in line.items() if key not in ("time", "client")} for line in lines(path)
    ]


@contextmanager
def registry(tmp_path: Path, **more: object) -> Iterator[tuple[Repository, Path]]:
    log = tmp_path / "audit.log"
    settings = Settings.load(
        None, {"data": tmp_path / "data", "access_log": False, "audit_log": str(log), **more}
    )
    with serving(settings) as url, httpx.Client(base_url=url) as http:
        yield Repository(http, "team/app"), log


DONE = {"outcome": "done", "user": "", "repository": "team/app"}


def test_ops_11_tells_of_a_push_and_of_every_tag_that_moved(tmp_path: Path) -> None:
    with registry(tmp_path) as (repository, log):
        first = repository.push_image("v1", b"layer")
        before = len(told(log))
        second = repository.push_image("v1", b"layer", annotations={"second": "yes"})
        repository.put_manifest("v1", second)

    blobs = [event for event in told(log) if event["audit"] == "blob.push"]
    assert {"audit": "blob.push", **DONE, "digest": str(Digest.of(b"layer"))} in blobs
    pushes = [event for event in told(log) if event["audit"] == "manifest.push"]
    old, new = str(Digest.of(first)), str(Digest.of(second))
    assert pushes == [
        {"audit": "manifest.push", **DONE, "reference": "v1", "digest": old, "tags": {"v1": None}},
        {"audit": "manifest.push", **DONE, "reference": "v1", "digest": new, "tags": {"v1": old}},
        {"audit": "manifest.push", **DONE, "reference": "v1", "digest": new, "tags": {"v1": new}},
    ]
    assert before == 3, "config, layer, manifest: nothing of reads and of the parts of an upload"
    assert all(line["client"] == "127.0.0.1" and line["time"].endswith("Z") for line in lines(log))


def test_ops_11_tells_of_mounts_and_deletes(tmp_path: Path) -> None:
    with registry(tmp_path) as (repository, log):
        manifest = repository.push_image("v1", b"layer")
        digest = Digest.of(b"layer")
        repository.http.post(f"/v2/other/blobs/uploads/?mount={digest}&from=team/app")
        before = len(told(log))
        for reference in ("v1", Digest.of(manifest)):
            assert repository.http.delete(f"{repository.url}/manifests/{reference}").status_code == 202
        assert repository.http.delete(f"{repository.url}/blobs/{digest}").status_code == 202

    events = told(log)
    assert events[before - 1] == {
        "audit": "blob.push",
        "outcome": "done",
        "user": "",
        "repository": "other",
        "digest": str(digest),
        "mounted_from": "team/app",
    }
    assert events[before:] == [
        {"audit": "manifest.delete", **DONE, "reference": "v1"},
        {"audit": "manifest.delete", **DONE, "reference": str(Digest.of(manifest))},
        {"audit": "blob.delete", **DONE, "reference": str(digest)},
    ]


def test_ops_11_tells_of_what_was_refused_and_what_failed(tmp_path: Path) -> None:
    with registry(tmp_path, read_only=True) as (repository, log):
        repository.http.post(f"{repository.url}/blobs/uploads/")
        repository.http.delete(f"{repository.url}/manifests/v1")
        repository.get("manifests/none")
    refused = {"outcome": "refused", "user": "", "repository": "team/app", "code": "DENIED"}
    assert [{**event, "reason": ""} for event in told(log)] == [
        {"audit": "blob.push", **refused, "reason": ""},
        {"audit": "manifest.delete", **refused, "reference": "v1", "reason": ""},
    ]
    assert "read-only" in told(log)[0]["reason"]

    with registry(tmp_path / "more") as (repository, log):
        repository.put_manifest("v1", b"rubbish")
    (event,) = told(log)
    assert (event["audit"], event["outcome"], event["code"]) == (
        "manifest.push",
        "failed",
        "MANIFEST_INVALID",
    )


def test_ops_11_is_written_before_the_answer(tmp_path: Path) -> None:
    with registry(tmp_path) as (repository, log):
        for number in range(20):
            repository.push_image(f"v{number}")
            assert told(log)[-1]["reference"] == f"v{number}"


# Secrets (OPS-02) and forged lines (OPS-03)


def test_ops_02_no_sink_has_a_secret(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Passwords, tokens and signed links in every place where a client can put one."""
    port = free_port()
    log, out = tmp_path / "audit.log", tmp_path / "out"
    config = tmp_path / "cargohold.toml"
    config.write_text(f'audit_log = "{log}"\nlog_level = "debug"\n')
    basic = base64.b64encode(f"alice:{CANARY}".encode()).decode()
    flags = ("--config", str(config), "--port", str(port))
    with out.open("w") as stdout, running(tmp_path / "data", *flags, stdout=stdout) as (_, stderr):
        url = f"http://127.0.0.1:{port}"
        answers(f"{url}/v2/")
        with httpx.Client(base_url=url) as http:
            repository = Repository(http, "team/app")
            location = repository.begin()
            for headers in (
                {"Authorization": f"Basic {basic}"},
                {"Authorization": f"Bearer {CANARY}"},
                {"Authorization": CANARY},
                {"Cookie": f"session={CANARY}", "Proxy-Authorization": f"Basic {basic}"},
            ):
                for method in ("GET", "PUT", "DELETE"):
                    http.request(method, f"{repository.url}/manifests/v1?token={CANARY}", headers=headers)
                http.get(f"/token?service={CANARY}&account=alice&refresh_token={CANARY}", headers=headers)
            form = {"grant_type": "password", "username": "alice", "password": CANARY, "service": "x"}
            http.post("/token", data=form)
            http.post("/token", data={"grant_type": "refresh_token", "refresh_token": CANARY})
            http.put(with_digest(f"{repository.url}/blobs/uploads/{'0' * 32}?_state={CANARY}", CANARY))
            http.patch(f"{location.split('?')[0]}?_state={CANARY}", content=b"x", headers=OCTETS)
            http.get(f"/v2/team/app/blobs/{Digest.of(b'')}?X-Amz-Signature={CANARY}")
            http.get(f"/metrics?password={CANARY}")
            http.request("BREW", f"/v2/?token={CANARY}")
            state = location.partition("_state=")[2]
            http.delete(location)
            metrics = http.get("/metrics").text

    sinks = {
        "audit": log.read_text(),
        "access": out.read_text(),
        "events": "".join(stderr),
        "metrics": metrics,
    }
    assert all(sinks.values())
    assert state
    for secret in (CANARY, basic, state):
        assert not [name for name, text in sinks.items() if secret in text]


def test_ops_03_nothing_that_a_client_sends_makes_a_line_of_its_own(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    audit = AuditFile(log)
    evil = 'x\r\n{"audit":"forged"}\x1b[2J\u2028\0"'

    audit.record(Event(evil, Outcome.REFUSED, evil, evil, {"account": evil, evil: [evil], "audit": "forged"}))

    text = log.read_text()
    assert (len(text.splitlines()), text.isascii()) == (1, True)
    assert not set(text[:-1]) & {chr(code) for code in range(32)}
    (line,) = lines(log)
    assert (line["audit"], line["user"], line["account"], line[evil]) == (evil, evil, evil, [evil])


# Where it goes


def test_may_be_off_or_on_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    event = Event("user.add", Outcome.DONE, "root", "local", {"account": "alice"})
    open_audit("off").record(event)
    assert capsys.readouterr().out == ""

    open_audit("stdout").record(event)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) | {"time": ""} == {
        "time": "",
        "audit": "user.add",
        "outcome": "done",
        "user": "root",
        "client": "local",
        "account": "alice",
    }


def test_a_file_is_its_owners_alone_and_is_appended_to(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    for action in ("one", "two"):
        audit = AuditFile(log)
        audit.record(Event(action, Outcome.DONE))
        audit.close()

    assert [line["audit"] for line in lines(log)] == ["one", "two"]
    assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("how", ["renamed", "removed", "truncated"])
def test_goes_on_in_a_new_file_when_the_old_one_was_rotated(tmp_path: Path, how: str) -> None:
    log = tmp_path / "audit.log"
    audit = AuditFile(log)
    audit.record(Event("one", Outcome.DONE))
    match how:
        case "renamed":
            log.rename(tmp_path / "audit.log.1")
        case "removed":
            log.unlink()
        case _:
            os.truncate(log, 0)

    audit.record(Event("two", Outcome.DONE))

    assert [line["audit"] for line in lines(log)] == ["two"]
    audit.close()


def test_lines_of_many_threads_and_writers_stay_whole(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    audits = [AuditFile(log), AuditFile(log)]

    def record(number: int) -> None:
        for _ in range(200):
            audits[number % 2].record(Event(f"number.{number}", Outcome.DONE, details={"more": "x" * 1000}))

    threads = [threading.Thread(target=record, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(lines(log)) == 800
    for audit in audits:
        audit.close()


def test_what_cannot_be_written_goes_to_the_log_of_events(caplog: pytest.LogCaptureFixture) -> None:
    audit = AuditFile(Path("/dev/full"))

    audit.record(Event("tag.delete", Outcome.DONE, "alice"))

    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.__dict__["audit"] == "tag.delete"
    assert record.__dict__["reason"] == "No space left on device"
    audit.close()


def test_a_file_that_cannot_be_had_is_told_before_anything_listens(tmp_path: Path) -> None:
    log = tmp_path / "none" / "audit.log"

    ended = subprocess.run(
        [*CARGOHOLD, "serve", "--data", str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "CARGOHOLD_AUDIT_LOG": str(log)},
    )

    assert ended.returncode == 1
    assert ended.stderr == f"error: cannot write the audit log {log}: No such file or directory\n"
