"""What libraries log, as lines for the user: warnings, and more with -v."""

import logging
import sys

from client.cli.text import printable

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LineFormatter(logging.Formatter):
    """`warning: event: field=value`, on one line whatever is in it."""

    def format(self, record: logging.LogRecord) -> str:
        fields = [f"{name}={value}" for name, value in vars(record).items() if name not in _STANDARD]
        event = ": ".join(
            [record.levelname.lower(), record.getMessage(), *([" ".join(fields)] if fields else [])]
        )
        return printable(event)


class StderrHandler(logging.Handler):
    """Writes to what stderr is at the time: bars put themselves in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def configure(*, verbose: bool) -> None:
    handler = StderrHandler()
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level="INFO" if verbose else "WARNING", handlers=[handler], force=True)
