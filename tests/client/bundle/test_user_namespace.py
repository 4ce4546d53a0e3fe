"""Which ids an ordinary user's container has; that runc takes them is test_users_bundles.py's."""

import os
import shutil
from pathlib import Path

import pytest

from client.bundle.errors import BundleRefused
from client.bundle.user_namespace import IdMapping, UserNamespace, wide_enough

UID, GID = os.geteuid(), os.getegid()


def test_the_callers_has_one_id() -> None:
    namespace = UserNamespace.of_caller()

    assert namespace == UserNamespace((IdMapping(0, UID, 1),), (IdMapping(0, GID, 1),))
    assert namespace.has(0, 0)
    assert not namespace.has(0, 1)
    assert not namespace.has(1, 0)


@pytest.mark.skipif(shutil.which("newuidmap") is None, reason="newuidmap (uidmap) is not installed")
def test_adds_all_subordinate_ids(tmp_path: Path) -> None:
    uids, gids = tmp_path / "subuid", tmp_path / "subgid"
    uids.write_text(f"nobody-else:1:1\n{UID}:100000:10\nbroken\n{UID}:x:5\n{UID}:200000:5\n")
    gids.write_bytes(b"\xff")

    namespace = UserNamespace.of_subordinates(uids, gids)

    assert namespace.uids == (IdMapping(0, UID, 1), IdMapping(1, 100000, 10), IdMapping(11, 200000, 5))
    assert namespace.gids == (IdMapping(0, GID, 1),)
    assert namespace.has(15, 0)
    assert not namespace.has(16, 0)


def test_keeps_to_the_namespace_it_is_given() -> None:
    given = UserNamespace((IdMapping(0, 5, 10),), (IdMapping(0, 5, 10),))

    assert wide_enough(given, 9, 9) is given
    with pytest.raises(BundleRefused, match="runs as 10:0, and an ordinary user has no such ids"):
        wide_enough(given, 10, 0)
