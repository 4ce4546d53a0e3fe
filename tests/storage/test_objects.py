import errno
import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from storage.objects import FilesystemObjects, ObjectStore
from storage.oci.errors import BlobUnknown, Unavailable
from tests.storage.disks import FailNth, Recording

OpenObjects = Callable[[], ObjectStore]


def filesystem(path: Path) -> OpenObjects:
    return partial(FilesystemObjects, path)


BACKENDS = [pytest.param(filesystem, id="filesystem")]


@pytest.fixture(params=BACKENDS)
def open_objects(request: pytest.FixtureRequest, tmp_path: Path) -> OpenObjects:
    backend: Callable[[Path], OpenObjects] = request.param
    return backend(tmp_path / "store")


@pytest.fixture
def objects(open_objects: OpenObjects) -> ObjectStore:
    return open_objects()


@pytest.mark.parametrize("data", [b"", b"x", b"line\n" * 100_000], ids=["empty", "one", "large"])
def test_keeps_an_object(open_objects: OpenObjects, data: bytes) -> None:
    open_objects().put("journal/000001-x", data)

    assert open_objects().get("journal/000001-x") == data


def test_replaces_an_object(objects: ObjectStore) -> None:
    objects.put("key", b"a longer old one")
    objects.put("key", b"new")

    assert objects.get("key") == b"new"
    assert list(objects.list("")) == ["key"]


def test_knows_no_object_that_was_not_put(objects: ObjectStore) -> None:
    objects.put("directory/key", b"")

    for key in ("absent", "directory/absent", "directory/key/below", "directory"):
        with pytest.raises(BlobUnknown):
            objects.get(key)


def test_deletes_an_object_and_takes_an_absent_one_for_success(objects: ObjectStore) -> None:
    objects.put("a/key", b"x")

    for key in ("a/key", "a/key", "a/key/below", "never/was"):
        objects.delete(key)

    assert list(objects.list("")) == []
    with pytest.raises(BlobUnknown):
        objects.get("a/key")


# In the order of their bytes: the slash sorts between the dot and the digits.
KEYS = ["a-b/c", "a.b", "a/b-c/d", "a/b.c", "a/bc", "a0", "a_b", "b/1", "b/10", "b/2"]


@pytest.mark.parametrize(
    "prefix", ["", "a", "a/", "a/b", "a/b-c/", "b/1", "b/3", "nothing/", "a.", "a0", "a/b-c/d"]
)
def test_lists_keys_bytewise_by_prefix(objects: ObjectStore, prefix: str) -> None:
    for key in reversed(KEYS):
        objects.put(key, b"")

    assert list(objects.list(prefix)) == [key for key in KEYS if key.startswith(prefix)]


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/absolute",
        "end/",
        "a//b",
        "..",
        "../a",
        "a/../b",
        ".hidden",
        "a/.new",
        "Upper",
        "sp ace",
        "new\nline",
        "nul\0",
        "a\\b",
        "ä",
    ],
)
def test_refuses_a_key_outside_the_grammar(objects: ObjectStore, key: str) -> None:
    for use in (objects.get, objects.delete, lambda key: objects.put(key, b"")):
        with pytest.raises(ValueError, match="not an object key"):
            use(key)


@pytest.mark.parametrize("prefix", ["..", "../", "a/../", "/", ".new/", "a//", "Upper"])
def test_refuses_a_prefix_that_starts_no_key(objects: ObjectStore, prefix: str) -> None:
    with pytest.raises(ValueError, match="not the start"):
        objects.list(prefix)


def test_puts_with_two_fsyncs(tmp_path: Path) -> None:
    disk = Recording(tmp_path)
    objects = FilesystemObjects(tmp_path, disk)
    objects.put("journal/1", b"x")
    disk.calls.clear()

    objects.put("journal/2", b"y")

    operations = [operation for operation, _ in disk.calls]
    assert operations == ["write", "sync", "rename", "sync"]
    assert disk.calls[2:] == [("rename", "objects/journal/2"), ("sync", "objects/journal")]


def test_keeps_objects_from_other_users_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        FilesystemObjects(tmp_path / "store").put("a/b", b"x")
    finally:
        os.umask(before)

    objects = tmp_path / "store/objects"
    assert stat.S_IMODE((objects / "a/b").stat().st_mode) == 0o600
    assert stat.S_IMODE((objects / "a").stat().st_mode) == 0o700


def test_passes_over_files_that_are_not_its_own(tmp_path: Path) -> None:
    objects = FilesystemObjects(tmp_path)
    objects.put("a/b", b"x")
    (tmp_path / "objects/README.TXT").write_bytes(b"")
    (tmp_path / "objects/link").symlink_to("a/b")
    (tmp_path / "objects/Linked").symlink_to("a")

    assert list(objects.list("")) == ["a/b"]
    with pytest.raises(BlobUnknown):
        objects.get("link")


def test_removes_what_a_crash_left_an_hour_ago(tmp_path: Path) -> None:
    FilesystemObjects(tmp_path).put("a", b"x")
    old, young = tmp_path / "objects/.new/old", tmp_path / "objects/.new/young"
    old.write_bytes(b"half")
    young.write_bytes(b"half")
    os.utime(old, (1, 1))

    objects = FilesystemObjects(tmp_path)

    assert not old.exists()
    assert young.exists()
    assert list(objects.list("")) == ["a"]


def test_puts_again_when_its_directory_was_removed(tmp_path: Path) -> None:
    objects = FilesystemObjects(tmp_path)
    objects.put("a/b", b"x")
    objects.delete("a/b")
    (tmp_path / "objects/a").rmdir()

    with pytest.raises(Unavailable):
        objects.put("a/b", b"y")
    objects.put("a/b", b"y")

    assert objects.get("a/b") == b"y"


def test_cannot_start_on_a_disk_that_fails(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        FilesystemObjects(tmp_path, FailNth("make_directory", 2, errno.EROFS))
