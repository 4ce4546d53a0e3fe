"""A benchmark's result: one line a measure, against its reference and its target."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_COLUMNS = ("measure", "cargohold", "reference", "ratio", "target", "verdict")


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on a ratio."""

    limit: float
    at_least: bool

    def met_by(self, value: float) -> bool:
        """Tell whether a value keeps the bound."""
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}x"


@dataclass(frozen=True, slots=True)
class Row:
    """One measure of ours and of a reference, in one unit."""

    measure: str
    ours: float
    reference: float
    reference_name: str
    target: Target | None

    def cells(self) -> tuple[str, ...]:
        """Format the row."""
        ratio = self.ours / self.reference
        verdict = "" if self.target is None else "PASS" if self.target.met_by(ratio) else "MISS"
        reference = f"{_number(self.reference)} ({self.reference_name})"
        return (
            self.measure, _number(self.ours), reference, f"{ratio:.2f}x", str(self.target or ""), verdict
        )  # fmt: skip


def at_least(limit: float) -> Target:
    """Make a bound for what should be high."""
    return Target(limit, at_least=True)


def at_most(limit: float) -> Target:
    """Make a bound for what should be low."""
    return Target(limit, at_least=False)


def median(values: Iterable[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def print_table(rows: Sequence[Row]) -> None:
    """Print rows as a table in Markdown, which the README can quote."""
    table = [_COLUMNS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(_COLUMNS))]
    for number, line in enumerate(table):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
