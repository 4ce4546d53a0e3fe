"""The verbs of administration beside a server that runs."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.client.homes import Home
from tests.registry.admin.operator import Operator, result
from tests.registry.admin.stand import Stand


@pytest.fixture
def beside(tmp_path: Path, stand: Stand, monkeypatch: pytest.MonkeyPatch) -> Operator:
    """Somebody on the machine of a server that runs."""
    return Operator(Home(tmp_path, monkeypatch), stand.data)


def test_counts_at_once_in_a_server_that_runs(beside: Operator, stand: Stand) -> None:
    password = result(beside.run("user", "add", "dave", "--generate"))
    assert stand.ping(("dave", password)) == 200
    assert result(beside.run("user", "disable", "dave")) == "dave"
    assert stand.ping(("dave", password)) == 401
    other = result(beside.run("user", "reset", "dave"))
    assert stand.ping(("dave", password)) == 401
    assert stand.ping(("dave", other)) == 200
    login = stand.login("dave")
    assert login in beside.run("token", "ls", "--user", "dave", "-q").lines
    assert result(beside.run("token", "revoke", login)) == login
    third = result(beside.run("user", "passwd", "dave", "--generate"))
    assert stand.ping(("dave", third)) == 200


def test_works_in_many_programs_at_once_beside_a_server(beside: Operator, stand: Stand) -> None:
    names = [f"crowd{number}" for number in range(6)]
    with ThreadPoolExecutor(len(names)) as pool:
        adding = [pool.submit(beside.run, "group", "add", name) for name in names]
        made = [stand.api().post("/groups", json={"name": f"http-{name}"}).status_code for name in names]
        done = [each.result() for each in adding]

    assert made == [201] * len(names)
    assert [each.lines for each in done] == [[name] for name in names]
    listed = beside.run("group", "ls", "-q").lines
    assert set(listed) >= {*names, *(f"http-{name}" for name in names)}


def test_ops_01_lets_the_owner_of_the_machine_in_again(beside: Operator, stand: Stand) -> None:
    auth = stand.user(is_admin=True)
    password = result(beside.run("user", "reset", auth[0]))

    assert stand.ping(auth) == 401
    assert stand.api((auth[0], password)).get("/whoami").json()["is_admin"] is True
    stand.api().delete(f"/users/{auth[0]}")
