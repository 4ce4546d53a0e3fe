"""Lists in pages: tags, repositories, referrers. Source: distribution-spec spec.md, end-8, end-12."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import httpx

from client.errors import AnswerInvalid
from client.exchange import Answer, Exchange, Request
from storage.oci import media_types
from storage.oci.descriptor import Descriptor
from storage.oci.errors import RegistryError
from storage.oci.manifest import MANIFEST_LIMIT, Manifest

_LIST_LIMIT = 16 * 1024 * 1024
_MOST_PAGES = 10_000
_MOST_REFERRERS = 100_000
_links = re.compile(r"<([^<>]*)>([^<]*)")
_is_next = re.compile(r';[ \t]*rel="?next"?[ \t]*(?:[;,]|\Z)', re.IGNORECASE).search

log = logging.getLogger(__name__)

T = TypeVar("T")


def names(exchange: Exchange, first: Request, member: str, parse: Callable[[str], T]) -> Iterator[T]:
    """Yield the entries of a list of names; what `parse` refuses is left out, for it could be anything."""

    def read(answer: Answer) -> list[Any]:
        try:
            document = json.loads(answer.read(_LIST_LIMIT))
        except (ValueError, RecursionError) as error:
            raise AnswerInvalid(f"{answer.url.host} sends a list that is not JSON") from error
        found = document.get(member) if isinstance(document, dict) else 0
        if not isinstance(found, list | None):
            raise AnswerInvalid(f"{answer.url.host} sends a list without {member}")
        return found or []  # Go programs write an empty list as null

    for page in _pages(exchange, first, read):
        for text in page:
            try:
                yield parse(str(text))
            except RegistryError:
                log.warning("name in a list is not one", extra={"member": member})


def referrers(exchange: Exchange, first: Request) -> list[Descriptor]:
    """Return the descriptors of every page."""

    def read(answer: Answer) -> tuple[Descriptor, ...]:
        content_type = media_types.essence(answer.headers.get("Content-Type", ""))
        if content_type != media_types.IMAGE_INDEX:
            raise AnswerInvalid(f"{answer.url.host} sends referrers as {content_type[:100]!r}")
        return Manifest.parse(content_type, answer.read(MANIFEST_LIMIT)).manifests

    found: list[Descriptor] = []
    for page in _pages(exchange, first, read):
        found += page
        if len(found) > _MOST_REFERRERS:
            raise AnswerInvalid(f"{first.url.host} lists more than {_MOST_REFERRERS} referrers")
    return found


def _pages(exchange: Exchange, first: Request, read: Callable[[Answer], T]) -> Iterator[T]:
    request, seen = first, {first.url}
    for _ in range(_MOST_PAGES):
        page, following = exchange.perform(request, lambda answer: (read(answer), _next(exchange, answer)))
        yield page
        if following is None:
            return
        if following in seen:
            raise AnswerInvalid(f"{following.host} sends pages in a circle")
        seen.add(following)
        request = request.at(following)
    raise AnswerInvalid(f"{first.url.host} sends more than {_MOST_PAGES} pages")


def _next(exchange: Exchange, answer: Answer) -> httpx.URL | None:
    """Read where the next page is. Source: RFC 8288, 3."""
    for line in answer.headers.get_list("Link"):
        for target, parameters in _links.findall(line):
            if _is_next(parameters):
                return exchange.resolve(answer.url, target, "the next page")
    return None
