"""One request to a registry until its answer: authentication, redirects, retries, and limits on all of it."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self, TypeVar

import httpx

from client.auth import TOKEN_LIMIT, Authenticator, TokenCache
from client.clock import Clock
from client.content import BytesContent, Content
from client.credentials import FindCredential
from client.destinations import Destinations, origin
from client.errors import AnswerInvalid, AnswerTooLarge, DestinationRefused, Unreachable
from client.http import Transport
from client.retry import Backoff, retry_after
from client.scopes import Scope
from storage.oci import errors
from storage.oci.errors import RegistryError

MOST_REDIRECTS = 5
MOST_AUTH_ROUNDS = 2

_ERROR_LIMIT = 1024 * 1024
# What is read of a redirect, so that its connection can be used again.
_REDIRECT_BODY = 4096
_REDIRECTS = (301, 302, 303, 307, 308)
_KEEPS_METHOD = (307, 308)
_HEADERS = {"User-Agent": "cargohold", "Accept": "*/*", "Accept-Encoding": "identity"}

T = TypeVar("T")


def _no_credential() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask; `expected` are the statuses that are answers and no errors."""

    method: str
    url: httpx.URL
    scopes: tuple[Scope, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    content: Content | None = None
    # The part of `content` that is sent: up to, not including, `until`, or all the rest.
    start: int = 0
    until: int | None = None
    expected: tuple[int, ...] = (200,)
    # Whether the same request may be sent again after one that failed on the way.
    is_repeatable: bool = True
    find_credential: FindCredential = _no_credential

    def at(self, url: httpx.URL) -> Self:
        """Ask the same elsewhere."""
        return replace(self, url=url)

    @property
    def stop(self) -> int:
        if self.until is not None:
            return self.until
        return 0 if self.content is None else self.content.size


class Answer:
    """An answer whose body is read once, and never beyond a limit."""

    def __init__(self, response: httpx.Response, is_home: bool) -> None:
        self._response = response
        self.status = response.status_code
        self.headers = response.headers
        self.url = response.request.url
        # False when it came from where the registry redirected to.
        self.is_home = is_home

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back, or close it when there is more to read."""
        if not self._response.is_stream_consumed and self._is_empty:
            # Its end has to be seen before another request can follow.
            with suppress(RegistryError):
                deque(self._response.iter_raw(), maxlen=0)
        self._response.close()

    @property
    def _is_empty(self) -> bool:
        return self.length == 0 or self.status == 204 or self._response.request.method == "HEAD"

    @property
    def length(self) -> int | None:
        """The Content-Length, when it is one."""
        text = self.headers.get("Content-Length", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it came.

        Raises Unreachable when it breaks off, AnswerInvalid when it is encoded (NET-10).
        """
        encoding = self.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding != "identity":
            raise AnswerInvalid(
                f"{self.url.host} encoded the content as {encoding[:20]!r}, which was not asked"
            )
        return self._response.iter_raw()

    def read(self, limit: int) -> bytes:
        """Return the whole body. Raises AnswerTooLarge as soon as it is beyond `limit`."""
        if (self.length or 0) > limit:
            raise AnswerTooLarge(f"{self.url.host} answers with {self.length} bytes, more than {limit}")
        body = bytearray()
        for chunk in self.chunks():
            body += chunk
            if len(body) > limit:
                raise AnswerTooLarge(f"{self.url.host} answers with more than {limit} bytes")
        return bytes(body)


class StorageRefused(Unreachable):
    """The place that a registry redirected to did not answer; a new redirect may lead to one that does."""


class Exchange:
    """Sends requests to one registry. Safe to use from several threads."""

    def __init__(
        self,
        destinations: Destinations,
        transport: Transport,
        backoff: Backoff,
        clock: Clock,
        *,
        tokens: TokenCache | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._destinations = destinations
        self._transport = transport
        self.backoff = backoff
        self._clock = clock
        self._headers = dict(headers or {})
        self.registry = destinations.registry
        self.authenticator = Authenticator(destinations, self._fetch_token, tokens, clock)

    def perform(self, request: Request, consume: Callable[[Answer], T]) -> T:
        """Send a request and give its answer to `consume`, both again after what may pass.

        Raises the error that the registry answered with, or why there is no answer.
        """

        def attempt() -> T:
            with self._once(request) as answer:
                return consume(answer)

        return self._retried(attempt, request.is_repeatable)

    def open(self, request: Request) -> Answer:
        """Send a request and return its answer with the body still to come; the caller closes it."""
        return self._retried(lambda: self._once(request), request.is_repeatable)

    def open_anonymous(self, request: Request) -> Answer:
        """Do the same for a URL that is not the registry's, with nothing that is secret."""
        return self._retried(lambda: self._expected(request, self._follow(request, {}, request.url)), True)

    def resolve(self, base: httpx.URL, location: str, what: str) -> httpx.URL:
        """Read a URL that an answer from `base` names, for use with this registry's credentials.

        Raises DestinationRefused for one that may not be followed.
        """
        target = _joined(base, location, what)
        self._destinations.check(target, base, what)
        return target

    def close(self) -> None:
        self._transport.close()

    def _retried(self, attempt: Callable[[], T], is_repeatable: bool) -> T:
        failures = 0
        while True:
            self.backoff.wait()
            try:
                result = attempt()
            except RegistryError as error:
                failures += 1
                if not is_repeatable:
                    raise
                self.backoff.fail(error, failures)
            else:
                self.backoff.succeed()
                return result

    def _once(self, request: Request) -> Answer:
        return self._expected(request, self._authenticated(request))

    def _authenticated(self, request: Request) -> Answer:
        """Send a request, and after a 401 again with what its challenge asks for, twice at most (CLI-07)."""
        home = self._destinations.registry
        header = self.authenticator.authorization(request.scopes, request.find_credential)
        for _ in range(MOST_AUTH_ROUNDS):
            answer = self._follow(request, {**self._headers, **_authorization(header)}, home)
            lines = answer.headers.get_list("WWW-Authenticate")
            # A 401 from elsewhere is not the registry's, and gets nothing (NET-04).
            if answer.status != 401 or not answer.is_home or not lines:
                return answer
            with answer, suppress(RegistryError):
                answer.read(_ERROR_LIMIT)  # so that the connection can be used again
            header = self.authenticator.renew(lines, request.scopes, request.find_credential, header)
        answer = self._follow(request, {**self._headers, **_authorization(header)}, home)
        lines = answer.headers.get_list("WWW-Authenticate")
        if answer.status != 401 or not answer.is_home or not lines:
            return answer
        with answer:
            raise self.authenticator.refusal(lines, request.scopes, request.find_credential())

    def _fetch_token(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], body: bytes | None
    ) -> bytes:
        """Ask a token endpoint, at which only `headers` and `body` are known, never the registry's."""
        content = None if body is None else BytesContent(body)
        request = Request(method, url, headers={"Accept": "application/json"}, content=content)
        answer = self._expected(request, self._follow(request, headers, url))
        with answer:
            return answer.read(TOKEN_LIMIT)

    def _follow(self, request: Request, secrets: Mapping[str, str], home: httpx.URL) -> Answer:
        """Send a request along its redirects; `secrets` stay behind where they leave `home`, for good."""
        url, method = request.url, request.method
        is_home = origin(url) == origin(home)
        for _ in range(MOST_REDIRECTS + 1):
            answer = self._send(request, url, secrets if is_home else {}, is_home)
            if answer.status not in _REDIRECTS:
                return answer
            with answer:
                if (answer.length or 0) <= _REDIRECT_BODY:
                    with suppress(RegistryError):
                        answer.read(_REDIRECT_BODY)
                target = self.resolve(url, answer.headers.get("Location", ""), "the redirect")
            if method not in ("GET", "HEAD") and answer.status not in _KEEPS_METHOD:
                raise AnswerInvalid(f"{url.host} redirects a {method} in a way that would change it")
            is_home = is_home and origin(target) == origin(home)
            if method == "POST" and request.content is not None and not is_home:
                # The body of a token request is a secret too.
                raise DestinationRefused(f"{url.host} redirects a form to {target.host}")
            url = target
        raise AnswerInvalid(f"{request.url.host} redirects more than {MOST_REDIRECTS} times")

    def _send(self, request: Request, url: httpx.URL, secrets: Mapping[str, str], is_home: bool) -> Answer:
        headers = {**_HEADERS, **request.headers, **secrets}
        body: Iterator[bytes] | None = None
        seconds = None
        if request.content is not None:
            headers["Content-Length"] = str(request.stop - request.start)
            body = request.content.read(request.start, request.stop)
            seconds = self._transport.timeouts.commit_seconds
        elif request.method in ("POST", "PUT", "PATCH"):
            headers["Content-Length"] = "0"
            seconds = self._transport.timeouts.commit_seconds
        sent = httpx.Request(request.method, url, headers=headers, content=body)
        return Answer(self._transport.send(sent, seconds), is_home)

    def _expected(self, request: Request, answer: Answer) -> Answer:
        """Let the answers pass that are none of the errors, which are raised."""
        if answer.status in request.expected:
            return answer
        body = b""
        with answer, suppress(RegistryError):
            body = answer.read(_ERROR_LIMIT)
        if answer.is_home and answer.status < 400:
            raise AnswerInvalid(f"{answer.url.host} answers {answer.status}, which means nothing here")
        error = _parse(answer.status, body) if answer.is_home else _storage_refused(request, answer)
        # A body may hold anything by this name.
        error.detail.pop("retry_after_seconds", None)
        seconds = retry_after(answer.headers, self._clock)
        if seconds is not None:
            error.detail["retry_after_seconds"] = seconds
        raise error


def _storage_refused(request: Request, answer: Answer) -> RegistryError:
    return StorageRefused(
        f"{answer.url.host}, to which {request.url.host} redirected, answered {answer.status}",
        status=answer.status,
    )


def _parse(status: int, body: bytes) -> RegistryError:
    """Read an error; a status that is not in the tree is a refusal below 500, and a fault from there on."""
    error = errors.parse(405 if status == 501 else status, body)
    return errors.parse(400, body) if type(error) is RegistryError and status < 500 else error


def _authorization(header: str | None) -> dict[str, str]:
    return {} if header is None else {"Authorization": header}


def _joined(base: httpx.URL, location: str, what: str) -> httpx.URL:
    if not location:
        raise AnswerInvalid(f"{base.host} does not say where {what} leads")
    try:
        return base.join(location).copy_with(fragment=None)
    except (httpx.InvalidURL, ValueError) as error:
        raise DestinationRefused(f"{what} of {base.host} is not a URL: {error}") from error
