"""Secrets that come through stdin."""

import sys

import click

# No secret is that long; what is longer came from somewhere else.
_LIMIT = 64 * 1024


def read_secret() -> str:
    """Read a password or token from stdin, without the end of its line. Raises UsageError."""
    data = sys.stdin.buffer.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        raise click.UsageError("stdin has more than a password")
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise click.UsageError("the password is not UTF-8") from error
