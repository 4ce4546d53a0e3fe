"""`cargohold diff`: what turns one image into the other."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.view.differences import Action, Change, Fact, diff
from client.view.view import View
from tests.client.unpack.archives import archive, directory, entry, file, link, symlink
from tests.client.unpack.overlays import needs_root
from tests.client.unpack.test_fuzz import bounded
from tests.client.view.stacks import Tree, seen, stacked
from tests.client.view.test_view import entries, whatever_unpacks

pytestmark = needs_root


def lines(changes: Sequence[Change]) -> list[str]:
    """Write changes as people read them: `C etc/passwd content mode`."""
    return [
        " ".join([change.action.value, change.path.decode(), *sorted(fact.value for fact in change.facts)])
        for change in changes
    ]


BASE = archive(
    directory("d", mode=0o755),
    file("d/f", b"1"),
    directory("d/deep"),
    file("d/deep/g", b"2"),
    file("e"),
    symlink("s", "d"),
    file("t", b"3"),
    entry("n", kind="character", device=(1, 3), mode=0o666),
)

CASES = {
    "nothing": ([], []),
    "times-only": ([file("d/f", b"1", mtime=5)], []),
    "content": ([file("d/f", b"9")], ["C d", "C d/f content"]),
    "size": ([file("d/f", b"99")], ["C d", "C d/f content"]),
    "size-from-nothing": ([file("e", b"9")], ["C e content"]),
    "mode": ([file("d/f", b"1", mode=0o600)], ["C d", "C d/f mode"]),
    "owner": ([file("d/f", b"1", uid=5)], ["C d", "C d/f owner"]),
    "xattrs": (
        [file("d/f", b"1", pax={"SCHILY.xattr.user.a": "b"})],
        ["C d", "C d/f xattrs"],
    ),
    "link": ([symlink("s", "t")], ["C s link"]),
    "device": ([entry("n", kind="character", device=(1, 5), mode=0o666)], ["C n device"]),
    "added": ([directory("new"), file("new/a"), file("b")], ["A b", "A new", "A new/a"]),
    "deleted-directory": ([file(".wh.d")], ["D d"]),
    "deleted-deep": ([file("d/deep/.wh.g")], ["C d", "C d/deep", "D d/deep/g"]),
    "opaque": (
        [directory("d"), file("d/.wh..wh..opq"), file("d/h")],
        ["C d", "D d/deep", "D d/f", "A d/h"],
    ),
    "directory-to-file": ([file("d", b"x", mode=0o755)], ["C d type"]),
    "file-to-directory": (
        [directory("t", mode=0o644), file("t/in")],
        ["C t type", "A t/in"],
    ),
    "directory-itself": ([directory("d", mode=0o700)], ["C d mode"]),
    "sorted-by-bytes": (
        [directory("x"), file("x/a"), file("x-"), file("x0"), file("X")],
        ["A X", "A x", "A x-", "A x/a", "A x0"],
    ),
    "hard-link": ([link("d/again", "t")], ["C d", "A d/again"]),
}


@pytest.mark.parametrize("name", CASES)
def test_tells_changes_as_docker_does(tmp_path: Path, name: str) -> None:
    upper, expected = CASES[name]
    stack = stacked(tmp_path, BASE, archive(*upper))

    with View(stack[1:]) as old, View(stack) as new:
        assert lines(diff(old, new)) == expected


def test_tells_the_reverse(tmp_path: Path) -> None:
    stack = stacked(tmp_path, BASE, archive(file(".wh.d"), file("t", b"new")))

    with View(stack) as old, View(stack[1:]) as new:
        assert lines(diff(old, new)) == ["A d", "A d/deep", "A d/deep/g", "A d/f", "C t content"]


def test_tells_of_the_root_itself(tmp_path: Path) -> None:
    stack = stacked(tmp_path, archive(directory("./", mode=0o755)), archive(directory("./", mode=0o700)))

    with View(stack[1:]) as old, View(stack) as new:
        assert diff(old, new) == [Change(b"", Action.CHANGED, frozenset([Fact.MODE]))]


class Counting(View):
    """Counts what is listed and opened."""

    listed = opened = 0

    def list(self, directory):  # type: ignore[no-untyped-def]  # as View has it
        Counting.listed += 1
        return super().list(directory)

    def open(self, file):  # type: ignore[no-untyped-def]  # as View has it
        Counting.opened += 1
        return super().open(file)


def test_reads_nothing_of_a_common_base(tmp_path: Path) -> None:
    base = archive(*(file(f"d{number}/deep/f", b"x") for number in range(50)))
    stack = stacked(tmp_path, base, archive(directory("d0"), file("d0/f", b"y")))

    with Counting(stack[1:]) as old, Counting(stack) as new:
        assert lines(diff(old, new)) == ["C d0", "A d0/f"]
    # The root and d0, on both sides.
    assert (Counting.listed, Counting.opened) == (4, 0)


def naive(before: Tree, after: Tree) -> set[tuple[str, bytes]]:
    """What differs by all facts of all files: additions, deletions that no directory stands for, changes."""
    ignored = {"mtime", "links", "linked to"}

    def facts(tree: Tree, path: bytes) -> dict[str, object]:
        return {key: value for key, value in tree[path].items() if key not in ignored}

    def is_replaced(path: bytes) -> bool:
        """Whether a directory on the way is gone, or another thing."""
        parents = [path[:end] for end, byte in enumerate(path) if byte == ord("/")]
        return any(parent not in after or not is_directory(after, parent) for parent in parents)

    def is_directory(tree: Tree, path: bytes) -> bool:
        return str(tree[path]["mode"]).startswith("0o40")

    changes = {("A", path) for path in after.keys() - before.keys()}
    changes |= {("D", path) for path in before.keys() - after.keys() if not is_replaced(path)}
    return changes | {
        ("C", path) for path in before.keys() & after.keys() if facts(before, path) != facts(after, path)
    }


layers = st.lists(st.lists(entries, max_size=6), max_size=2)


@bounded(60)
@given(layers, layers, layers)
def test_tells_of_any_two_images_what_a_full_comparison_tells(
    base: list[list[bytes]], one: list[list[bytes]], other: list[list[bytes]]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        stacks = []
        for side, upper in (("one", one), ("other", other)):
            place = Path(name, side)
            place.mkdir()
            stacks.append(whatever_unpacks(place, [*base, *upper]))
        # A common base is the same layers, as in the store.
        shared = min(len(base), *(len(stack) for stack in stacks)) if one and other else 0
        common = stacks[0][len(stacks[0]) - shared :] if shared else []
        stacks[1] = stacks[1][: len(stacks[1]) - shared] + common
        with View(stacks[0]) as old, View(stacks[1]) as new:
            changes = diff(old, new)
            expected = naive(seen(old), seen(new))

    found = {(change.action.value, change.path) for change in changes}
    inside = {(change.action.value, change.path) for change in changes if not change.facts}
    assert expected <= found
    assert found - expected <= {(action, path) for action, path in inside if action == "C"}
    assert all(any(other.startswith(path + b"/") for _, other in expected) for _, path in found - expected)
