"""What goes for all of the admin API: lists in pages, the audit log, other workers."""

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from registry.endpoints.admin.operation import Operation
from registry.endpoints.admin.table import OPERATIONS
from registry.metadata import access_version
from tests.registry.admin.stand import ALICE, ROOT, SAMPLES, Stand, standing


@pytest.fixture(scope="module")
def other_worker(stand: Stand) -> Iterator[Stand]:
    """Another server over the same data."""
    with standing(stand.data) as running:
        yield running


def name() -> str:
    return f"x{uuid.uuid4().hex[:10]}"


# Pages


@pytest.mark.parametrize(
    ("path", "member", "key"),
    [
        pytest.param("/users", "users", "name", id="users"),
        pytest.param("/groups", "groups", None, id="groups"),
        pytest.param("/robots", "robots", "name", id="robots"),
        pytest.param("/tokens", "tokens", "id", id="tokens"),
        pytest.param("/users/alice/tokens", "tokens", "id", id="tokens-of-a-user"),
        pytest.param("/refresh-tokens", "refresh_tokens", "id", id="refresh-tokens"),
        pytest.param("/policy/rules", "rules", "id", id="rules"),
        pytest.param("/immutable-tags", "immutable_rules", "id", id="immutable"),
        pytest.param("/quotas", "quotas", "repository", id="quotas"),
    ],
)
def test_gives_a_list_in_pages(
    stand: Stand, root: httpx.Client, path: str, member: str, key: str | None
) -> None:
    _fill(stand, root)
    everything = root.get(path, params={"n": 1000})
    assert "Link" not in everything.headers
    found: list[Any] = []
    following = f"{path}?n=2"
    while following:
        response = root.get(f"{stand.door.url}{following}" if found else following)
        assert response.status_code == 200
        page = response.json()[member]
        assert len(page) == 2 or "Link" not in response.headers
        found += page
        following = response.links.get("next", {}).get("url", "")

    assert found == everything.json()[member]
    assert len(found) >= 3
    assert len({each[key] if key else each for each in found}) == len(found)


def _fill(stand: Stand, root: httpx.Client) -> None:
    for _ in range(3):
        root.post("/groups", json={"name": name()})
        root.post("/robots", json={"name": name()})
        stand.api(ALICE).post("/users/alice/tokens", json={})
        stand.login("alice")
        root.post("/policy/rules", json={"who": "anonymous", "repository": "public/*", "actions": ["pull"]})
        root.post("/immutable-tags", json={"repository": "team/**", "tags": "v*"})
        root.put("/quotas", json={"repository": name(), "tags": 9})


# What else a change is


CHANGES = [each for each in OPERATIONS if each.action]


@pytest.mark.parametrize("operation", CHANGES, ids=lambda each: each.id)
def test_ops_11_tells_the_audit_log_who_tried_what(stand: Stand, operation: Operation) -> None:
    sample = SAMPLES[operation.id]
    path = operation.path.format(**sample.path)
    events = []
    for auth in (ALICE, ROOT):
        before = len(stand.audited())
        response = stand.api(auth).request(
            operation.method, path, params=dict(sample.query), json=sample.body
        )
        (event,) = stand.audited()[before:]
        events.append(event)
        outcome = {2: "done", 4: "failed"}[response.status_code // 100]
        assert event["outcome"] == ("refused" if response.status_code == 403 else outcome)

    assert [event["user"] for event in events] == ["alice", "root"]
    assert {event["audit"] for event in events} == {operation.action}
    assert all(event.items() >= sample.path.items() for event in events)
    assert events[1]["client"] == "127.0.0.1"


def test_names_each_kind_of_change() -> None:
    assert all(each.action or each.method == "GET" or each.id == "policy.explain" for each in OPERATIONS)
    assert len({each.action for each in CHANGES}) == len(CHANGES)


def test_ops_11_tells_the_audit_log_of_wrong_passwords(stand: Stand) -> None:
    before = len(stand.audited())
    for method in ("GET", "DELETE"):
        stand.api(None).request(method, "/users/bob", auth=("root", "guess"))

    events = stand.audited()[before:]
    assert [(event["audit"], event["outcome"], event["user"]) for event in events] == [
        ("login", "refused", "")
    ] * 2
    assert events[0]["path"] == "/users/bob"


def test_ops_11_tells_the_audit_log_of_reads_that_were_refused(stand: Stand, alice: httpx.Client) -> None:
    before = len(stand.audited())
    for path in ("/users/alice", "/whoami", "/users/bob", "/users"):
        alice.get(path)

    events = stand.audited()[before:]
    assert [(event["audit"], event["outcome"], event["user"], event["path"]) for event in events] == [
        ("access", "refused", "alice", "/users/bob"),
        ("access", "refused", "alice", "/users"),
    ]


def test_counts_in_other_workers_at_once(stand: Stand, other_worker: Stand, root: httpx.Client) -> None:
    auth = stand.user()
    assert other_worker.ping(auth) == 200
    version = stand.database.read(access_version.number)

    root.put(f"/users/{auth[0]}/disabled")

    # Asked for at every login, and for what is kept in memory once a second.
    assert stand.database.read(access_version.number) > version
    assert other_worker.ping(auth) == 401
    assert other_worker.api().get(f"/users/{auth[0]}").json()["is_disabled"] is True
