"""`cargohold ls`."""

from pathlib import Path

import pytest

from client.view.listing import entries, long_lines, text
from client.view.view import View
from tests.client.unpack.archives import archive, directory, entry, file, symlink
from tests.client.unpack.overlays import needs_root
from tests.client.view.stacks import stacked

DATA = archive(
    directory("./", mode=0o755),
    directory("d", mode=0o1777, uid=1000, gid=5, mtime=0),
    file("d/b", b"12345", mode=0o4755, mtime=-1),
    directory("d/a", mode=0o700),
    file("d/a/x"),
    entry("d/null", kind="character", device=(1, 3), mode=0o666),
    symlink("s", "d", mode=0o777),
    symlink("t", "d\x1b]0;x\x07"),
)


@needs_root
@pytest.mark.parametrize(
    ("path", "recursive", "expected"),
    [
        pytest.param(b"d", False, [b"d/a", b"d/b", b"d/null"], id="directory"),
        pytest.param(b"/s", False, [b"d/a", b"d/b", b"d/null"], id="link-to-a-directory"),
        pytest.param(b"s/b", False, [b"d/b"], id="file"),
        pytest.param(b"/", True, [b"d", b"d/a", b"d/a/x", b"d/b", b"d/null", b"s", b"t"], id="recursive"),
    ],
)
def test_lists(tmp_path: Path, path: bytes, recursive: bool, expected: list[bytes]) -> None:
    with View(stacked(tmp_path, DATA)) as view:
        assert [found.path for found in entries(view, path, recursive=recursive)] == expected


@needs_root
def test_writes_lines_as_ls_does(tmp_path: Path) -> None:
    with View(stacked(tmp_path, DATA)) as view:
        lines = list(long_lines(list(entries(view, b"", recursive=True))))

    assert lines == [
        "drwxrwxrwt 1 1000 5   0 1970-01-01 00:00:00 d",
        "drwx------ 1    0 0   0 2001-09-09 01:46:40 d/a",
        "-rw-r--r-- 1    0 0   0 2001-09-09 01:46:40 d/a/x",
        "-rwsr-xr-x 1    0 0   5 1969-12-31 23:59:59 d/b",
        "crw-rw-rw- 1    0 0 1,3 2001-09-09 01:46:40 d/null",
        "lrwxrwxrwx 1    0 0   1 2001-09-09 01:46:40 s -> d",
        "lrwxrwxrwx 1    0 0   7 2001-09-09 01:46:40 t -> d\\x1b]0;x\\x07",
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param(b"plain name", "plain name", id="plain"),
        pytest.param("é".encode(), "é", id="utf-8"),
        pytest.param(b"n\n\x1b[31mX", "n\\n\\x1b[31mX", id="TAR-10-escape-sequence"),
        pytest.param(b"\xff", "\\xff", id="no-utf-8"),
        pytest.param(b"\\xff", "\\\\xff", id="backslash"),
        pytest.param("a\u202eb".encode(), "a\\u202eb", id="right-to-left"),
    ],
)
def test_TAR_10_writes_names_that_a_terminal_does_not_obey(name: bytes, expected: str) -> None:
    assert text(name) == expected


def test_writes_times_outside_the_calendar() -> None:
    from client.view.listing import modified

    assert modified(2**62 * 100) == f"@{2**62 * 100 // 10**9}"
