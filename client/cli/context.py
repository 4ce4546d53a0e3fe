"""What a verb works with, made from the shared options when it is first needed.

Nothing here is imported before a command runs but click: `--help` must not wait for httpx.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, update_wrapper
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

import click

from client.cli.run import Run

if TYPE_CHECKING:
    from client.api import Client
    from client.cli.progress import Renderer
    from client.cli.stopping import Stop
    from client.clock import Deadline
    from client.configuration.credentials import StoredCredentials
    from client.configuration.paths import Paths
    from client.hosts import Hosts
    from client.network import Network
    from client.sessions import Sessions
    from client.store.store import Store
    from storage.oci.names import ImageReference

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """What the shared options say; the defaults are those of verbs that do not have them."""

    plain_http: bool = False
    insecure: bool = False
    ca_file: tuple[Path, ...] = ()
    client_cert: Path | None = None
    client_key: Path | None = None
    timeout: float | None = None
    progress: str = "auto"
    quiet: bool = False


class Context:
    """One run of a verb. What it opens is closed, and its progress ended, when the verb returns."""

    def __init__(self, run: Run, options: Options) -> None:
        self.run = run
        self.options = options
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        from client.cli import logs

        logs.configure(verbose=self.run.verbose)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end_progress()
        if "progress" in vars(self):
            self.run.has_kept = self.progress.has_kept
        if "stop" in vars(self):
            self.run.signal = self.stop.signal
        self._stack.close()

    @contextmanager
    def about(self, reference: "ImageReference") -> Iterator[None]:
        """Name what was asked for in the error that may come; the innermost name counts.

        Around a child of an index put its own digest in: what is absent then is not the tag.
        """
        try:
            yield
        except Exception as error:
            if self.run.failure is not error:
                self.run.failure, self.run.subject = error, reference
            raise

    def print(self, line: str) -> None:
        """Write one result to stdout, below whatever progress there was."""
        self.end_progress()
        print(line, flush=True)

    def end_progress(self) -> None:
        """End the display, if there is one: what is printed next stands below it."""
        if "progress" in vars(self):
            self.progress.close()

    def note(self, line: str) -> None:
        """Write to stderr what is good to know and no result; --quiet leaves it out."""
        from client.cli.text import printable

        self.progress.close()
        if not self.options.quiet:
            print(printable(line), file=sys.stderr)

    def warn(self, line: str) -> None:
        """Write what the user should know to stderr."""
        from client.cli.text import printable

        print(f"warning: {printable(line)}", file=sys.stderr)

    @cached_property
    def paths(self) -> "Paths":
        from client.configuration.paths import Paths

        return Paths()

    @cached_property
    def store_path(self) -> Path:
        """The store's directory: --store, $CARGOHOLD_STORE, or the user's own."""
        from client.store.store import default_root

        return self.run.store or default_root(dict(self.paths.environment))

    @cached_property
    def hosts(self) -> "Hosts":
        from client.endpoints import Overrides
        from client.hosts import Hosts

        options = self.options
        pairs: tuple[tuple[Path, Path], ...] = ()
        if options.client_cert and options.client_key:
            pairs = ((options.client_cert, options.client_key),)
        overrides = Overrides(options.plain_http, not options.insecure, options.ca_file, pairs)
        return Hosts(self.paths, overrides)

    @cached_property
    def stop(self) -> "Stop":
        """Set by SIGINT and SIGTERM from the first time it is asked for."""
        from client.cli.stopping import Stop

        return self._stack.enter_context(Stop())

    @cached_property
    def deadline(self) -> "Deadline":
        from client.clock import Deadline

        return Deadline.after(self.options.timeout, stop=self.stop.event)

    @cached_property
    def network(self) -> "Network":
        from client.network import Network
        from client.proxies import Proxies

        proxies = Proxies.from_environment(os.environ)
        return Network(deadline=self.deadline, proxies=proxies, tls=self.hosts.tls)

    @cached_property
    def credentials(self) -> "StoredCredentials":
        from client.configuration.credentials import StoredCredentials

        return StoredCredentials(self.paths)

    @cached_property
    def sessions(self) -> "Sessions":
        from client.sessions import Sessions

        return self._stack.enter_context(Sessions(self.credentials, self.network))

    @cached_property
    def store(self) -> "Store":
        """The local store, for verbs that need nothing else: it does not import httpx."""
        from client.store.store import Store

        return self._stack.enter_context(Store(self.store_path))

    @cached_property
    def client(self) -> "Client":
        """The library, over this verb's options."""
        from client.api import Client
        from client.places.opening import Opener

        opener = Opener(self.hosts, self.sessions, self.deadline)
        return self._stack.enter_context(Client(self.store_path, opener, self.progress))

    @cached_property
    def progress(self) -> "Renderer":
        """What is told here is shown as --progress says; it is a client.progress.Progress."""
        from client.cli.progress import make_renderer

        return make_renderer("none" if self.options.quiet else self.options.progress)


def local(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command its Context, without options: for verbs that stay on this machine."""
    return _with_context(command, ())


def progressing(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command its Context, and the options of verbs that take long."""
    return _with_context(command, _PROGRESS)


def connected(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command its Context, and the options of verbs that talk to registries."""
    return _with_context(command, (*_REGISTRY, *_PROGRESS))


def _with_context(command: Callable[..., T], options: tuple[click.Option, ...]) -> Callable[..., T]:
    @click.pass_context
    def invoke(ctx: click.Context, /, **values: Any) -> T:
        chosen = Options(**{str(option.name): values.pop(str(option.name)) for option in options})
        if (chosen.client_cert is None) != (chosen.client_key is None):
            raise click.UsageError("--client-cert and --client-key come together", ctx)
        with Context(ctx.find_object(Run) or Run(), chosen) as context:
            return command(context, **values)

    decorated: Any = update_wrapper(invoke, command)
    # Where click's decorators put them, in reverse; the command's own are shown before these.
    decorated.__click_params__ = [*reversed(options), *getattr(command, "__click_params__", ())]
    shared: Callable[..., T] = decorated
    return shared


_file = click.Path(exists=True, dir_okay=False, path_type=Path)
_REGISTRY = (
    click.Option(["--plain-http"], is_flag=True, help="Speak http to the registry."),
    click.Option(["--insecure"], is_flag=True, help="Trust whoever answers for the registry."),
    click.Option(["--ca-file"], type=_file, multiple=True, help="Trust this authority too."),
    click.Option(["--client-cert"], type=_file, help="Show this certificate to the registry."),
    click.Option(["--client-key"], type=_file, help="The certificate's key."),
    click.Option(
        ["--timeout"],
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="Give up after so long.",
    ),
)
_PROGRESS = (
    click.Option(
        ["--progress"],
        type=click.Choice(["auto", "rich", "plain", "json", "none"]),
        default="auto",
        help="How to show progress, on stderr. [auto]",
    ),
    click.Option(["-q", "--quiet"], is_flag=True, help="Print the result alone."),
)
