"""The verbs of administration: real programs on a registry's directory, with and without its server."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from client.cli.group import Verb
from registry.admin.verbs import SECTION
from registry.auth import keys
from registry.metadata import groups, users
from registry.migrations import MIGRATIONS
from storage.database import SqliteDatabase, connect
from tests.client.homes import Home
from tests.registry.admin.operator import Operator, result, rows


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("machine")


@pytest.fixture(scope="module")
def database(data: Path) -> Iterator[SqliteDatabase]:
    """The database of a registry that is not running."""
    database = connect(f"sqlite:{data / 'cargohold.db'}", MIGRATIONS)
    yield database
    database.close()


@pytest.fixture
def operator(
    tmp_path: Path, data: Path, database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> Operator:
    return Operator(Home(tmp_path, monkeypatch), data)


# Users


def test_looks_after_users(operator: Operator, database: SqliteDatabase) -> None:
    assert (
        result(operator.run("user", "add", "root", "--admin", "--password-stdin", given="toor toor\n"))
        == "root"
    )
    made_up = operator.run("user", "add", "ann", "--generate", "--json").json
    assert made_up["name"] == "ann"
    assert len(made_up["password"]) >= 20
    assert result(operator.run("user", "disable", "ann")) == "ann"
    listed = {row["Name"]: row for row in rows(operator.run("user", "ls", "--json"))}

    assert (listed["root"]["Admin"], listed["root"]["Disabled"]) == (True, False)
    assert (listed["ann"]["Admin"], listed["ann"]["Disabled"]) == (False, True)
    assert operator.run("user", "ls", "-q").lines == ["ann", "root"]
    assert operator.run("user", "ls").lines[0].split() == [
        "NAME",
        "ADMIN",
        "DISABLED",
        "CREATED",
        "LAST",
        "LOGIN",
    ]
    assert result(operator.run("user", "enable", "ann")) == "ann"
    assert result(operator.run("user", "rm", "ann")) == "ann"
    assert operator.run("user", "ls", "-q").lines == ["root"]
    done = operator.run("user", "rm", "root")
    assert (done.code, done.out) == (1, "")
    assert "last administrator" in done.err
    account = database.read(lambda db: users.find(db, "root"))
    assert account is not None
    assert account.password_hash.startswith("$argon2id$")


def test_asks_for_a_password_at_a_terminal(operator: Operator, database: SqliteDatabase) -> None:
    terminal = operator.terminal("user", "add", "typist")
    terminal.wait_for("Password: ")
    terminal.type("typed by hand\n")
    terminal.wait_for("Again: ")
    terminal.type("typed by hand\n")

    assert terminal.end() == 0
    assert "typed by hand" not in terminal.shown
    assert database.read(lambda db: users.find(db, "typist")) is not None


@pytest.mark.parametrize(
    ("arguments", "given", "said"),
    [
        pytest.param(["user", "add", "x"], "", "stdin is no terminal", id="nobody-to-ask"),
        pytest.param(["user", "add", "x", "secret"], "", "unexpected extra argument", id="password-in-argv"),
        pytest.param(["user", "add", "x", "--password", "y"], "", "no such option", id="password-option"),
        pytest.param(
            ["user", "add", "x", "--generate", "--password-stdin"], "", "exclude each other", id="both-ways"
        ),
        pytest.param(["user", "add", "x", "--password-stdin"], "short", "8 characters", id="short"),
        pytest.param(["user", "add", "robot", "--generate"], "", "a meaning of its own", id="reserved"),
        pytest.param(["user", "add", "a:b", "--generate"], "", "a name is", id="colon"),
        pytest.param(["policy", "add", "alice", "a", "pull"], "", "not a who", id="who"),
        pytest.param(["policy", "add", "user:alice", "A", "pull"], "", "upper case", id="pattern"),
        pytest.param(["policy", "explain", "alice", "look", "a"], "", "not an action", id="action"),
        pytest.param(["policy", "explain", "alice", "pull", "A"], "", "A", id="repository"),
        pytest.param(["policy", "rm", "first"], "", "not a valid integer", id="rule-number"),
        pytest.param(["robot", "token", "x", "--limit", "a"], "", "PATTERN:ACTIONS", id="limit"),
        pytest.param(["robot", "token", "x", "--limit", "a:look"], "", "is no action", id="limit-action"),
        pytest.param(["robot", "token", "x", "--days", "0"], "", "is not in the range", id="days"),
        pytest.param(["quota", "set", "a"], "", "limits bytes or tags", id="no-limit"),
        pytest.param(["quota", "set", "a", "--bytes", "1XB"], "", "is no size", id="size"),
        pytest.param(["quota", "set", "a", "--bytes", "9999999TB"], "", "more than there can be", id="huge"),
    ],
)
def test_says_what_is_misused(operator: Operator, arguments: list[str], given: str, said: str) -> None:
    done = operator.run_here(*arguments, given=given)

    assert (done.code, done.out) == (2, "")
    assert said in done.errors[0]
    assert done.errors[1] == f"try: cargohold {arguments[0]} {arguments[1]} --help"


@pytest.mark.parametrize(
    "arguments",
    [
        ["user", "disable", "nobody"],
        ["user", "promote", "nobody"],
        ["user", "passwd", "nobody", "--generate"],
        ["group", "join", "nobody", "x"],
        ["robot", "token", "nobody"],
        ["token", "add", "nobody"],
        ["token", "revoke", "0000"],
        ["policy", "rm", "999999"],
        ["policy", "immutable", "rm", "999999"],
        ["quota", "rm", "nowhere/**"],
        ["key", "retire", "-none"],
    ],
    ids=" ".join,
)
def test_says_what_is_not_there(operator: Operator, arguments: list[str]) -> None:
    done = operator.run_here(*arguments)

    assert (done.code, done.out) == (3, "")
    assert len(done.errors) == 1
    assert done.err.startswith("error: there is no ")


def test_imports_an_htpasswd_file(operator: Operator, tmp_path: Path) -> None:
    stored = bcrypt.hashpw(b"an old password", bcrypt.gensalt(10)).decode()
    file = tmp_path / "htpasswd"
    file.write_text(f"old:{stored}\nolder:{stored}\n")

    assert operator.run("user", "import", file).lines == ["old", "older"]
    again = operator.run("user", "import", file)
    assert (again.code, again.out) == (0, "")
    assert again.err == "these were there already: old, older\n"
    file.write_text("plain:secret\n")
    assert operator.run("user", "import", file).code == 2


def test_makes_administrators_and_users_again(operator: Operator, database: SqliteDatabase) -> None:
    for name in ("chief", "deputy"):
        operator.run_here("user", "add", name, "--admin", "--generate")

    assert operator.run_here("user", "demote", "chief").lines == ["chief"]
    account = database.read(lambda db: users.find(db, "chief"))
    assert account is not None
    assert not account.is_admin
    assert operator.run_here("user", "promote", "chief", "--json").json == {"name": "chief"}
    account = database.read(lambda db: users.find(db, "chief"))
    assert account is not None
    assert account.is_admin
    operator.run_here("user", "rm", "chief", "deputy")


# Groups, robots, tokens


def test_looks_after_groups(operator: Operator, database: SqliteDatabase) -> None:
    assert result(operator.run_here("group", "add", "team")) == "team"
    assert operator.run_here("group", "add", "Team").code == 1
    assert operator.run_here("group", "join", "team", "b", "a").lines == ["b", "a"]
    assert rows(operator.run_here("group", "ls", "--json")) == [{"Name": "team", "Members": ["a", "b"]}]
    assert result(operator.run_here("group", "leave", "team", "a")) == "a"
    assert database.read(lambda db: groups.members(db, "team")) == ["b"]
    assert operator.run_here("group", "leave", "team", "a").code == 3
    assert result(operator.run_here("group", "rm", "team")) == "team"
    assert operator.run_here("group", "ls", "-q").lines == []


def test_looks_after_robots_and_tokens(operator: Operator) -> None:
    assert result(operator.run("robot", "add", "ci", "--description", "builds")) == "ci"
    secret = result(operator.run("robot", "token", "ci", "--limit", "team/**:pull,push", "--days", "30"))
    assert secret.startswith("chr_")
    assert result(operator.run("user", "add", "tom", "--password-stdin", given="tom tom tom")) == "tom"
    made = operator.run("token", "add", "tom", "--json").json
    assert made["secret"].startswith("chp_")
    assert made["expires"] is None

    listed = {row["Owner"]: row for row in rows(operator.run_here("token", "ls", "--json"))}
    assert listed["robot:ci"]["Limits"] == [{"Repository": "team/**", "Actions": ["pull", "push"]}]
    assert listed["tom"]["ID"] == made["id"]
    table = operator.run_here("token", "ls")
    assert "team/**:pull,push" in table.out
    assert secret not in table.out + json.dumps(listed)
    assert operator.run_here("token", "ls", "--robot", "ci", "-q").lines == [listed["robot:ci"]["ID"]]
    assert result(operator.run_here("token", "revoke", made["id"])) == made["id"]
    assert operator.run_here("token", "ls", "--user", "tom", "-q").lines == []
    assert result(operator.run_here("robot", "disable", "ci")) == "ci"
    (robot,) = rows(operator.run_here("robot", "ls", "--json"))
    assert (robot["Name"], robot["Description"], robot["Disabled"]) == ("ci", "builds", True)
    assert str(robot["CreatedBy"]).startswith("local:")
    assert result(operator.run_here("robot", "rm", "ci")) == "ci"
    assert operator.run_here("robot", "ls", "-q").lines == []


# Rules, quotas, keys


def test_looks_after_rules(operator: Operator) -> None:
    number = result(operator.run_here("policy", "add", "robot:ci", "team/*", "pull", "tag-create"))
    listed = {row["ID"]: row for row in rows(operator.run_here("policy", "ls", "--json"))}

    assert listed[number]["Who"] == "robot:ci"
    assert listed[number]["Actions"] == ["pull", "tag-create"]
    allowed = operator.run_here("policy", "explain", "robot:ci", "tag-create", "team/app")
    assert allowed.code == 0
    assert allowed.out.startswith(f"allowed: policy rule {number} ")
    denied = operator.run_here("policy", "explain", "anonymous", "pull", "team/app", "--json")
    assert (denied.code, denied.json["allowed"], denied.err) == (1, False, "")
    assert result(operator.run_here("policy", "rm", number)) == number
    assert operator.run_here("policy", "explain", "robot:ci", "tag-create", "team/app").code == 1


def test_explains_with_the_rules_of_the_configuration(operator: Operator, tmp_path: Path) -> None:
    config = tmp_path / "cargohold.toml"
    config.write_text(f'data = "{operator.data}"\nauth = "local"\nanonymous_pull = true\n')

    done = operator.run("policy", "explain", "anonymous", "pull", "any/thing", "--config", config)

    assert done.code == 0
    assert "anonymous_pull" in done.out
    assert operator.run("policy", "ls", "-q", "--config", config).lines[0] == "config"


def test_looks_after_immutable_tags(operator: Operator) -> None:
    number = result(operator.run_here("policy", "immutable", "add", "team/**", "v*"))

    assert rows(operator.run_here("policy", "immutable", "ls", "--json")) == [
        {"ID": number, "Repository": "team/**", "Tags": "v*"}
    ]
    assert result(operator.run_here("policy", "immutable", "rm", number)) == number


@pytest.mark.parametrize(
    ("size", "bytes_"),
    [("500", 500), ("10GB", 10 * 10**9), ("10gib", 10 * 2**30), ("2k", 2000), ("1TiB", 2**40)],
)
def test_reads_sizes(operator: Operator, size: str, bytes_: int) -> None:
    assert result(operator.run_here("quota", "set", "sized/**", "--bytes", size, "--json")) == json.dumps(
        {"repository": "sized/**", "bytes": bytes_, "tags": None}
    )
    operator.run_here("quota", "rm", "sized/**")


def test_looks_after_quotas(operator: Operator) -> None:
    assert result(operator.run_here("quota", "set", "team/**", "--bytes", "10GB", "--tags", "5")) == "team/**"
    assert rows(operator.run_here("quota", "ls", "--json")) == [
        {"Repository": "team/**", "Bytes": 10**10, "Tags": 5, "From": "database"}
    ]
    assert result(operator.run_here("quota", "rm", "team/**")) == "team/**"


def test_auth_30_looks_after_keys(operator: Operator, database: SqliteDatabase) -> None:
    database.transaction(lambda db: keys.ensure(db, "ES256"))
    (old,) = operator.run_here("key", "ls", "-q").lines
    new = result(operator.run_here("key", "rotate"))

    listed = {row["ID"]: row for row in rows(operator.run_here("key", "ls", "--json"))}
    assert list(listed) == [new, old]
    assert listed[new]["Retires"] is None
    assert listed[old]["Retires"] is not None
    assert result(operator.run_here("key", "retire", old)) == old
    assert operator.run_here("key", "ls", "-q").lines == [new]


# The machine


@pytest.mark.parametrize("where", ["--data", "--config", "environment"])
def test_makes_no_registry_where_none_is(operator: Operator, tmp_path: Path, where: str) -> None:
    config = tmp_path / "cargohold.toml"
    config.write_text(f'data = "{tmp_path / "typo"}"\n')
    del operator.environment["CARGOHOLD_DATA"]
    done = {
        "--data": lambda: operator.run("user", "ls", "--data", tmp_path / "typo"),
        "--config": lambda: operator.run("user", "ls", "--config", config),
        "environment": lambda: operator.run("user", "ls", CARGOHOLD_DATA=str(tmp_path / "typo")),
    }[where]()

    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"error: there is no registry in {tmp_path / 'typo'}: say --data")
    assert not (tmp_path / "typo").exists()


def test_names_a_setting_that_is_wrong(operator: Operator, tmp_path: Path) -> None:
    config = tmp_path / "cargohold.toml"
    config.write_text("dats = 1\n")

    done = operator.run("user", "ls", "--config", config)

    assert done.code == 2
    assert "dats" in done.err


def test_ops_11_tells_the_audit_log(operator: Operator, tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    log = {"CARGOHOLD_AUDIT_LOG": str(file)}
    password = result(operator.run("user", "reset", "audited", **log))
    operator.run("user", "add", "audited", "--generate", **log)

    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(each["audit"], each["outcome"], each["name"]) for each in events] == [
        ("user.reset", "done", "audited"),
        ("user.add", "failed", "audited"),
    ]
    assert all(each["client"] == "local" and each["user"].startswith("local:") for each in events)
    assert password not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def _rows(verbs: tuple[Verb, ...], *before: str) -> Iterator[list[str]]:
    for verb in verbs:
        yield from _rows(verb.verbs, *before, verb.name) if verb.verbs else [[*before, verb.name]]


@pytest.mark.parametrize("words", list(_rows(SECTION.verbs)), ids=" ".join)
def test_has_a_command_with_a_page_of_help_behind_every_row(operator: Operator, words: list[str]) -> None:
    done = operator.run_here(*words, "--help")

    assert done.code == 0
    assert done.out.startswith(f"Usage: cargohold {' '.join(words)} [OPTIONS]")
    assert "--data DIR" in done.out
    assert len(done.lines) <= 24
