"""The end of a run: what was raised becomes a line on stderr and an exit code."""

import os
import select
import sys
from collections.abc import Callable
from typing import Any

import click

from client.cli.run import Run

INTERRUPTED = 130
PIPE_CLOSED = 141


class PastClick(Exception):
    """Carries a broken pipe past click, which would end the program for it, whichever pipe it is."""

    def __init__(self, pipe: BrokenPipeError) -> None:
        super().__init__(str(pipe))
        self.pipe = pipe


def guarded(command: Callable[[], Any], run: Run) -> int:
    """Run a command; print what it raises and return the exit code."""
    try:
        code = command()
        sys.stdout.flush()
    except BaseException as error:
        code = _ended_unheard(error, run)
        _let_go()
    return code if isinstance(code, int) else 0


def _ended_unheard(error: BaseException, run: Run) -> int:
    """Do so also where nobody reads what is said about it."""
    try:
        return _ended(error, run)
    except BrokenPipeError:
        return PIPE_CLOSED


def _ended(error: BaseException, run: Run) -> int:
    if isinstance(error, PastClick):
        error = error.pipe
    if isinstance(error, OSError) and _has_lost_reader():
        return PIPE_CLOSED
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, click.ClickException):
        return _misused(error)
    # Only now: a run that succeeds knows nothing of what could have failed.
    from client.cli import errors

    return errors.report(error, run)


def _misused(error: click.ClickException) -> int:
    from client.cli.text import printable

    message = printable(" ".join(error.format_message().split()))
    print(f"error: {message[:1].lower()}{message[1:]}", file=sys.stderr)
    context = getattr(error, "ctx", None)
    if context is not None:
        print(f"try: {context.command_path} --help", file=sys.stderr)
    return error.exit_code


def _has_lost_reader() -> bool:
    """Tell whether stdout or stderr is a pipe that nobody reads any more: then nobody wants more of it."""
    poll = select.poll()
    for fd in (1, 2):
        poll.register(fd, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def _let_go() -> None:
    """Drop output that cannot be written: the interpreter would try again at its end, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
