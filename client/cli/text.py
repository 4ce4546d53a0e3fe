"""Texts for people: escaped where a terminal would obey them, sizes and ages as docker writes them."""

from datetime import UTC, datetime

_SIZE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def printable(text: str, keep: str = "") -> str:
    """Escape what is no printable character, but for those in `keep`: control characters, odd spaces.

    What servers and images say goes through this, so that no name or message moves a cursor (TAR-10).
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else ascii(char)[1:-1].replace("\\\\", "\\")
        for char in text
    )


def size(count: float) -> str:
    """Write a number of bytes in three digits, as docker does: 1.23MB."""
    unit = 0
    # 999.5 is 1000 in three digits.
    while count >= 999.5 and unit < len(_SIZE_UNITS) - 1:
        count /= 1000
        unit += 1
    return f"{count:.3g}{_SIZE_UNITS[unit]}" if count < 999.5 else f"{count:.0f}{_SIZE_UNITS[unit]}"


def duration(seconds: float) -> str:
    """Write how long something takes or is ago, in one unit. Source: docker/go-units, HumanDuration."""
    minutes, hours = seconds / 60, seconds / 3600
    if seconds < 1:
        return "Less than a second"
    if seconds < 60:
        return plural(int(seconds), "second")
    if minutes < 2:
        return "About a minute"
    if minutes < 60:
        return plural(int(minutes), "minute")
    if hours < 1.5:
        return "About an hour"
    for limit, divisor, unit in _AGES:
        if hours < limit:
            return plural(round(hours) if divisor == 1 else int(hours / divisor), unit)
    return plural(int(hours / 24 / 365), "year")


def age(seconds: float) -> str:
    """Write when something was, as `docker images` does."""
    return f"{duration(seconds)} ago"


# Hours below which a unit is used, and how many hours it has.
_AGES = (
    (48, 1, "hour"),
    (24 * 7 * 2, 24, "day"),
    (24 * 30 * 2, 24 * 7, "week"),
    (24 * 365 * 2, 24 * 30, "month"),
)


def plural(count: int, unit: str) -> str:
    """Write a number of things."""
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


def since(created: str) -> str:
    """Write when something was that RFC 3339 text says; N/A for what is no time."""
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return "N/A"
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return age(max((datetime.now(UTC) - moment).total_seconds(), 0.0))
