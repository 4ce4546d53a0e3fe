"""Lists in pages, from registries that send what is none."""

from collections.abc import Iterable

import pytest

from client.errors import AnswerInvalid, AnswerTooLarge
from storage.oci.digest import Digest
from storage.oci.errors import (
    RegistryError,
)
from storage.oci.media_types import IMAGE_MANIFEST
from storage.oci.names import RepositoryName, Tag
from tests.client.conftest import Open
from tests.client.lying import (
    Received,
    lying,
    reply_json,
)
from tests.registry.pushing import image

NAME = RepositoryName("library/app")
MANIFEST = image(b"{}", b"layer")
DIGEST = Digest.of(MANIFEST)
BLOB = bytes(range(256)) * 100
BLOB_DIGEST = Digest.of(BLOB)
TYPE = {"Content_Type": IMAGE_MANIFEST}


@pytest.mark.parametrize(
    ("document", "error"),
    [
        pytest.param({"tags": 5}, AnswerInvalid, id="a-number"),
        pytest.param([], AnswerInvalid, id="an-array"),
        pytest.param({"tags": ["a" * 2**24]}, AnswerTooLarge, id="too-large"),
    ],
)
def test_refuses_a_list_that_is(open_session: Open, document: object, error: type[RegistryError]) -> None:
    with lying(lambda _: reply_json(200, document)) as server, pytest.raises(error):
        list(open_session(server.address).tags(NAME))


def test_leaves_out_what_is_no_tag(open_session: Open) -> None:
    with lying(lambda _: reply_json(200, {"tags": ["v1", "\x1b[2J", None, "v2"]})) as server:
        assert list(open_session(server.address).tags(NAME)) == [Tag("v1"), Tag("None"), Tag("v2")]


def test_reads_null_as_no_tags(open_session: Open) -> None:
    with lying(lambda _: reply_json(200, {"tags": None})) as server:
        assert list(open_session(server.address).tags(NAME)) == []


def test_does_not_go_in_circles(open_session: Open) -> None:
    with (
        lying(lambda received: reply_json(200, {"tags": ["v1"]}, Link='</v2/b>; rel="next"')) as server,
        pytest.raises(AnswerInvalid, match="circle"),
    ):
        list(open_session(server.address).tags(NAME))


@pytest.mark.parametrize(
    ("link", "pages"),
    [
        pytest.param('</v2/next>; rel="next"', 2, id="quoted"),
        pytest.param("</v2/next>; rel=next", 2, id="plain"),
        pytest.param('</v2/prev>; rel="prev", </v2/next>; title="a, b"; rel="next"', 2, id="second"),
        pytest.param('</v2/next>; rel="prev"', 1, id="another-relation"),
        pytest.param("rubbish", 1, id="rubbish"),
    ],
)
def test_reads_where_the_next_page_is(open_session: Open, link: str, pages: int) -> None:
    def answer(received: Received) -> Iterable[bytes]:
        is_first = received.path.endswith("tags/list")
        return reply_json(200, {"tags": ["v1"]}, **({"Link": link} if is_first else {}))

    with lying(answer) as server:
        assert len(list(open_session(server.address).tags(NAME))) == pages
