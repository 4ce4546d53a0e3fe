"""How lists of administration show what they hold; with --json they have it whole."""

from datetime import UTC, datetime
from typing import Any

from client.cli.output import Column

# Lists on the machine have no pages.
ALL = 2**31 - 1


def time_of(seconds: float | None) -> str | None:
    """Write a time of the database as RFC 3339."""
    return None if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def at(title: str, field: str) -> Column:
    """Make a column of times, to the minute."""
    return Column(title, field, show=lambda text: "never" if text is None else text[:16].replace("T", " "))


def yes(title: str, field: str) -> Column:
    """Make a column that says something only where it is true."""
    return Column(title, field, show=lambda value: "yes" if value else "")


def words(title: str, field: str) -> Column:
    """Make a column of several words."""
    return Column(title, field, show=",".join)


def limit(title: str, field: str, show: Any = str) -> Column:
    """Make a column of numbers that may be without limit."""
    return Column(title, field, show=lambda value: "-" if value is None else show(value))
