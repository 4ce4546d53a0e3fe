"""Personal access tokens and secrets of robots: random texts that name their kind and carry a checksum.

The checksum lets a mistyped one, or something else altogether, be told without asking the database, and lets
scanners of leaked secrets be sure. Source: github.blog, "Behind GitHub's new authentication token formats".
"""

import hashlib
import re
import secrets
import zlib
from typing import Literal

Kind = Literal["user", "robot"]

_PREFIXES: dict[Kind, str] = {"user": "chp_", "robot": "chr_"}
_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BITS = 256
_BODY = 43  # letters that hold 256 bits
_CHECK = 6  # letters that hold 32 bits
_parts = re.compile(rf"(ch[pr]_)([0-9A-Za-z]{{{_BODY}}})([0-9A-Za-z]{{{_CHECK}}})", re.ASCII).fullmatch


def generate(kind: Kind) -> str:
    """Make a secret of 256 random bits."""
    text = _PREFIXES[kind] + _write(secrets.randbits(_BITS), _BODY)
    return text + _checksum(text)


def kind_of(text: str) -> Kind | None:
    """Say whose secret a text can be; None for what is no secret of ours, or a mistyped one."""
    parts = _parts(text)
    if parts is None or _checksum(parts[1] + parts[2]) != parts[3]:
        return None
    return "user" if parts[1] == _PREFIXES["user"] else "robot"


def digest(text: str) -> bytes:
    """Hash a secret for keeping. It is random, so that a fast hash is as good as a slow one."""
    return hashlib.sha256(text.encode()).digest()


def _checksum(text: str) -> str:
    return _write(zlib.crc32(text.encode()), _CHECK)


def _write(number: int, letters: int) -> str:
    text = ""
    for _ in range(letters):
        number, digit = divmod(number, 62)
        text = _LETTERS[digit] + text
    return text
