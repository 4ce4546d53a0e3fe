"""A row of the admin API: a request that can be sent, and all that is said about it."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import unquote

from pydantic import BaseModel

from registry.endpoints.admin.asking import Right
from registry.endpoints.admin.models import Query, Reads
from storage.oci.errors import RequestInvalid

Handler = Callable[..., Awaitable[BaseModel | None]]


@dataclass(frozen=True)
class Operation:
    """A method and path with its handler; `action` is what the audit log calls a change.

    The handler takes an Asked and, by these names, a `query` and a `body`; what they are, and what the answer
    is, its annotations say.
    """

    method: str
    path: str
    right: Right
    handler: Handler
    summary: str
    action: str = ""
    status: int = 200
    # Refusals besides those that every request of its kind can meet.
    errors: tuple[int, ...] = field(default=())

    @cached_property
    def query(self) -> type[Query] | None:
        return self._parameter("query", Query)

    @cached_property
    def body(self) -> type[Reads] | None:
        return self._parameter("body", Reads)

    @cached_property
    def answer(self) -> type[BaseModel] | None:
        returned = self._signature.return_annotation
        return returned if isinstance(returned, type) and issubclass(returned, BaseModel) else None

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Return the names of the path's variable parts."""
        return tuple(part[1:-1] for part in self._parts if part.startswith("{"))

    @property
    def tag(self) -> str:
        return self._parts[0]

    @property
    def id(self) -> str:
        """Return the operation's name, as in `users.create`."""
        return f"{self.handler.__module__.rpartition('.')[2]}.{self.handler.__name__}"

    def match(self, parts: list[str]) -> Mapping[str, str] | None:
        """Return the variable parts of a path that this one describes. Raises RequestInvalid."""
        if len(parts) != len(self._parts):
            return None
        pairs = list(zip(self._parts, parts, strict=True))
        if any(mine != given for mine, given in pairs if not mine.startswith("{")):
            return None
        return {mine[1:-1]: _decode(given) for mine, given in pairs if mine.startswith("{")}

    @cached_property
    def _parts(self) -> list[str]:
        return self.path.removeprefix("/").split("/")

    @cached_property
    def _signature(self) -> inspect.Signature:
        return inspect.signature(self.handler, eval_str=True)

    def _parameter(self, name: str, kind: type) -> type | None:
        parameter = self._signature.parameters.get(name)
        if parameter is None:
            return None
        assert issubclass(parameter.annotation, kind)
        model: type = parameter.annotation
        return model


def _decode(part: str) -> str:
    """Undo the percent-encoding of one part; a slash in it separates nothing."""
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError:
        raise RequestInvalid("the path is not UTF-8") from None
