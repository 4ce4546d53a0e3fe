"""An htpasswd file: what is taken of it, and how it follows its changes."""

import logging
import os
from pathlib import Path

import bcrypt
import pytest

from registry.auth import htpasswd
from registry.auth.htpasswd import Htpasswd, HtpasswdInvalid
from storage.oci.errors import Unauthorized
from tests.registry.auth.people import people


def hashed(password: str, cost: int = 10) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()


ALICE, BOB = hashed("wonderland"), hashed("can we fix it")


def replace(path: Path, text: str) -> None:
    """Write as careful editors do; another inode is another file, however fast."""
    new = path.with_name("new")
    new.write_text(text)
    new.replace(path)


def test_TOK_05_reads_names_and_hashes() -> None:
    text = f"# people\n\nalice:{ALICE}\r\nbob@example.org:{BOB}\n"

    assert htpasswd.parse(text) == {"alice": ALICE, "bob@example.org": BOB}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        pytest.param("carol:$apr1$x$y", "bcrypt", id="md5"),
        pytest.param("carol:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "bcrypt", id="sha"),
        pytest.param("carol:secret", "bcrypt", id="plain"),
        pytest.param("carol:" + ALICE.replace("$10$", "$05$"), "cost 5", id="cheap"),
        pytest.param("carol:" + ALICE.replace("$10$", "$17$"), "cost 17", id="dear"),
        pytest.param("carol", "NAME:HASH", id="no-colon"),
        pytest.param(f"alice:{BOB}", "already", id="twice"),
        pytest.param(f"oidc:{BOB}", "name", id="reserved"),
        pytest.param(f":{BOB}", "name", id="no-name"),
        pytest.param(f"robot$ci:{BOB}", "name", id="robot"),
        pytest.param(f"carol:{BOB}:Carol", "bcrypt", id="third-field"),
    ],
)
def test_TOK_05_names_the_line_it_refuses(line: str, why: str) -> None:
    with pytest.raises(HtpasswdInvalid, match=rf"^line 3: .*{why}") as refused:
        htpasswd.parse(f"# one\nalice:{ALICE}\n{line}\n")

    assert "secret" not in str(refused.value)
    assert BOB not in str(refused.value)


def test_TOK_05_names_every_bad_line_up_to_ten() -> None:
    with pytest.raises(HtpasswdInvalid) as refused:
        htpasswd.parse("\n".join(f"user{number}:plain" for number in range(12)))

    assert [f"line {number}:" in str(refused.value) for number in range(1, 13)] == [True] * 10 + [False] * 2
    assert str(refused.value).endswith("; 2 more")


@pytest.mark.parametrize("data", [b"alice:" + b"\xff", b"x" * (8 * 1024 * 1024 + 1)], ids=["binary", "huge"])
def test_TOK_05_does_not_start_with_a_file_that_is_none(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "htpasswd"
    file.write_bytes(data)

    with pytest.raises(HtpasswdInvalid):
        Htpasswd(file)


def test_TOK_05_follows_a_change_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "htpasswd"
    file.write_text(f"alice:{ALICE}\n")
    users = Htpasswd(file)
    assert not users.is_changed()

    replace(file, f"bob:{BOB}\n")
    assert users.is_changed()
    users.reload()

    assert (users.find("alice"), users.find("bob")) == (None, BOB)
    assert not users.is_changed()
    assert users.generation == 1


def test_TOK_05_follows_a_symlink_that_is_swapped(tmp_path: Path) -> None:
    """As kubernetes updates a mounted secret: file -> ..data/file, and ..data -> another directory."""
    for version, line in (("1", f"alice:{ALICE}\n"), ("2", f"bob:{BOB}\n")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "htpasswd").write_text(line)
        os.utime(tmp_path / version / "htpasswd", ns=(0, 0))
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "htpasswd").symlink_to("..data/htpasswd")
    users = Htpasswd(tmp_path / "htpasswd")

    (tmp_path / "..new").symlink_to("2")
    (tmp_path / "..new").rename(tmp_path / "..data")

    assert users.is_changed()
    users.reload()
    assert users.names() == ["bob"]


@pytest.mark.parametrize("breaks", ["parse", "gone"])
def test_TOK_05_keeps_the_old_users_when_the_file_breaks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, breaks: str
) -> None:
    file = tmp_path / "htpasswd"
    file.write_text(f"alice:{ALICE}\n")
    users = Htpasswd(file)

    if breaks == "gone":
        file.unlink()
    else:
        replace(file, f"bob:{BOB}\ncarol:plain\n")
    with caplog.at_level(logging.WARNING, "registry.auth.htpasswd"):
        users.reload()

    assert users.names() == ["alice"]
    assert users.generation == 0
    (record,) = caplog.records
    reason = record.__dict__["reason"]
    assert "line 2: not a bcrypt hash" in reason if breaks == "parse" else "No such file" in reason
    assert not users.is_changed()  # said once

    replace(file, f"bob:{BOB}\n")
    users.reload()
    assert users.names() == ["bob"]


def test_TOK_05_takes_a_login_by_the_file_as_it_is_now(tmp_path: Path) -> None:
    file = tmp_path / "htpasswd"
    file.write_text(f"alice:{ALICE}\n")
    with people(tmp_path, htpasswd=file) as us:
        before = us.run(us.identities.version)
        identity = us.login("alice", "wonderland")
        assert us.renew(identity.handle, us.hand()).principal.name == "alice"

        replace(file, f"alice:{hashed('looking glass')}\n")

        assert us.run(us.identities.version) != before
        with pytest.raises(Unauthorized):
            us.login("alice", "wonderland")
        # A login of the old password ends with it.
        with pytest.raises(Unauthorized):
            us.renew(identity.handle, us.hand())
        assert us.login("alice", "looking glass").principal.name == "alice"


@pytest.mark.parametrize(
    ("username", "password"),
    [("alice", "wrong"), ("nobody", "wrong"), ("root", "wrong")],
    ids=["of-the-file", "unknown", "of-the-database"],
)
def test_AUTH_24_costs_the_same_for_users_of_file_and_database_and_for_nobody(
    tmp_path: Path, username: str, password: str
) -> None:
    file = tmp_path / "htpasswd"
    file.write_text(f"alice:{ALICE}\n")
    with people(tmp_path, htpasswd=file) as us:
        us.add("root", "a long password")

        with pytest.raises(Unauthorized):
            us.login(username, password)

        assert us.counted.taken() == ["argon2", "bcrypt"]
