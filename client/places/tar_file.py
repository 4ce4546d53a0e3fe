"""A tar archive on disk, read by place: its members are listed once and never unpacked.

Headers are read as strictly as those of layers, for a list that two programs read differently hides content.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from client.content import BLOCK as READ_BYTES
from client.errors import DiskFailed
from client.places.contents import FileStream
from client.places.errors import PlaceInvalid
from client.unpack import fields
from client.unpack.errors import UnpackError, printable
from client.unpack.extensions import Extensions
from client.unpack.fields import BLOCK, HEADER, ZERO, number, text
from client.unpack.limits import Limits

_FILES = (b"0", b"\0", b"7")
_SYMLINK = b"2"
# Links, devices and directories have no data, whatever size old programs noted.
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")
_USTAR = b"ustar\0"
_MOST_MEMBERS = 200_000
_MOST_HOPS = 4
_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Member:
    """A file: where its bytes are in the archive; or a symbolic link to `link`."""

    name: str
    offset: int
    size: int
    link: str | None = None


class TarFile:
    """An open archive; its members by name."""

    def __init__(self, fd: int, name: str) -> None:
        """Take over an open, seekable file. Raises PlaceInvalid for what is no archive to be trusted."""
        self.name = name
        self._fd = fd
        try:
            self._size = os.fstat(fd).st_size
            self._members = self._list()
        except UnpackError as error:
            os.close(fd)
            raise PlaceInvalid(f"{name}: {error}") from error
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def open(cls, path: Path) -> "TarFile":
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DiskFailed(f"{path}: {error.strerror}") from error
        return cls(fd, str(path))

    def close(self) -> None:
        os.close(self._fd)

    def find(self, name: str) -> Member | None:
        """Return a file by its name, through links inside the archive. Raises PlaceInvalid for others."""
        for _ in range(_MOST_HOPS):
            member = self._members.get(name)
            if member is None or member.link is None:
                return member
            name = self._linked(member)
        raise PlaceInvalid(f"{self.name}: {name!r} is a link to a link to a link")

    def stream(self, member: Member, start: int = 0, stop: int | None = None) -> FileStream:
        end = member.size if stop is None else min(stop, member.size)
        return FileStream(self._fd, member.offset, (start, end), owns=False)

    def read(self, member: Member, limit: int) -> bytes:
        """Return a small file. Raises PlaceInvalid for a large one."""
        if member.size > limit:
            raise PlaceInvalid(f"{self.name}: {member.name!r} has more than {limit} bytes")
        return b"".join(self.stream(member))

    def _linked(self, member: Member) -> str:
        assert member.link is not None
        joined = os.path.normpath(os.path.join(os.path.dirname(member.name), member.link))
        if member.link.startswith("/") or joined.startswith(("/", "..")):
            raise PlaceInvalid(f"{self.name}: {member.name!r} is a link that leads out of the archive")
        return joined

    def _list(self) -> dict[str, Member]:
        members: dict[str, Member] = {}
        for member in self._headers():
            if member.name in members:
                # One program takes the first, another the last.
                raise PlaceInvalid(f"{self.name} has two members of the name {member.name!r}")
            members[member.name] = member
            if len(members) > _MOST_MEMBERS:
                raise PlaceInvalid(f"{self.name} has more than {_MOST_MEMBERS} members")
        return members

    def _headers(self) -> Iterator[Member]:
        """Yield files and links. Raises UnpackError, PlaceInvalid."""
        position, extensions = 0, None
        while header := self._header(position):
            values = HEADER.unpack(header)
            fields.verify_checksum(header, values[6])
            type_, size = values[7], number(values[4])
            position += BLOCK
            if type_ in Extensions.TYPES or type_ == b"g":
                extensions = self._extend(extensions, type_, size, position)
                position += size + -size % BLOCK
                continue
            name, link = _names(values)
            if extensions is not None:
                if extensions.real_size() is not None:
                    raise PlaceInvalid(f"{self.name}: {printable(name)} is a sparse file")
                name, link, size = extensions.name(name), extensions.link(link), extensions.size(size)
                extensions = None
            size = 0 if type_ in _WITHOUT_DATA else size
            if size < 0 or position + size > self._size:
                raise PlaceInvalid(f"{self.name} is cut in {printable(name)}")
            member = self._member(type_, name, link, (position, size))
            if member is not None:
                yield member
            position += size + -size % BLOCK
        if extensions is not None:
            raise PlaceInvalid(f"{self.name} ends where the member of an extended header should be")

    def _header(self, position: int) -> bytes:
        """Return the header at a place, nothing at the end of the archive."""
        header = self._pread(position, BLOCK)
        if header == ZERO:
            if self._pread(position + BLOCK, BLOCK) not in (ZERO, b""):
                raise PlaceInvalid(f"{self.name} has a single block of zeros inside")
            return b""
        if not header and position:
            raise PlaceInvalid(f"{self.name} is cut: the end of the archive is missing")
        if len(header) < BLOCK:
            raise PlaceInvalid(f"{self.name} is no tar archive" if not position else f"{self.name} is cut")
        return header

    def _extend(
        self, extensions: Extensions | None, type_: bytes, size: int, position: int
    ) -> Extensions | None:
        if size < 0 or position + size > self._size:
            raise PlaceInvalid(f"{self.name} is cut in an extended header")
        if type_ == b"g":
            Extensions(_LIMITS).add(b"x", size, partial(self._pread, position))
            return extensions
        extensions = extensions or Extensions(_LIMITS)
        extensions.add(type_, size, partial(self._pread, position))
        return extensions

    def _member(self, type_: bytes, name: bytes, link: bytes, place: tuple[int, int]) -> Member | None:
        path = _path(name, self.name)
        if type_ == _SYMLINK:
            return Member(path, 0, 0, link.decode("utf-8", "surrogateescape"))
        if type_ in _FILES and not name.endswith(b"/"):
            return Member(path, *place)
        if type_ not in _WITHOUT_DATA and type_ not in _FILES:
            raise PlaceInvalid(f"{self.name}: {printable(name)} is of the unknown type {printable(type_)}")
        return None

    def _pread(self, position: int, size: int) -> bytes:
        data = b""
        while len(data) < size and (more := self._read_at(position + len(data), size - len(data))):
            data += more
        return data

    def _read_at(self, position: int, size: int) -> bytes:
        try:
            return os.pread(self._fd, min(size, READ_BYTES), position)
        except OSError as error:
            raise DiskFailed(f"{self.name}: {error.strerror}") from error


def _names(values: tuple[bytes, ...]) -> tuple[bytes, bytes]:
    name, link, magic, prefix = text(values[0]), text(values[8]), values[9], values[11]
    if magic.startswith(_USTAR) and prefix[0]:
        name = text(prefix) + b"/" + name
    return name, link


def _path(name: bytes, archive: str) -> str:
    """Return a member's path. Raises PlaceInvalid for one that would lead out of where it is unpacked."""
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if name.startswith(b"/") or b".." in parts:
        raise PlaceInvalid(f"{archive}: the name {printable(name)} leads out of the archive")
    return b"/".join(parts).decode("utf-8", "surrogateescape")
