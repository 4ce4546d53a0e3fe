import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.oci import errors
from storage.oci.digest import Digest
from storage.oci.errors import RegistryError, parse, render


def concrete_classes() -> list[type[RegistryError]]:
    found: list[type[RegistryError]] = []
    waiting: list[type[RegistryError]] = [RegistryError]
    while waiting:
        kind = waiting.pop()
        waiting += [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
        if not kind.__name__.startswith("_"):
            found.append(kind)
    return found


SPEC_CODES = {
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "UNAUTHORIZED",
    "DENIED",
    "UNSUPPORTED",
    "TOOMANYREQUESTS",
}
every_class = pytest.mark.parametrize("kind", concrete_classes(), ids=lambda kind: kind.__name__)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


def entries(error: RegistryError) -> list[dict[str, object]]:
    errors_ = json.loads(render(error))["errors"]
    assert isinstance(errors_, list)
    return errors_


def test_no_two_classes_share_code_and_status() -> None:
    pairs = [(kind.code, kind.status) for kind in concrete_classes()]

    assert len(pairs) == len(set(pairs)) == 28


@every_class
def test_uses_the_codes_of_the_spec_for_client_errors(kind: type[RegistryError]) -> None:
    assert kind.status >= 500 or kind.code in SPEC_CODES


@every_class
def test_survives_render_and_parse(kind: type[RegistryError]) -> None:
    error = kind("as it was", name="library/app", count=3)

    read = parse(kind.status, render(error))

    assert type(read) is kind
    assert read.message == str(read) == "as it was"
    assert read.detail == error.detail


@every_class
def test_survives_pickling(kind: type[RegistryError]) -> None:
    read = pickle.loads(pickle.dumps(kind("as it was", name="app")))

    assert (type(read), read.message, read.detail) == (kind, "as it was", {**kind("").detail, "name": "app"})


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        pytest.param(errors.RangeInvalid("x", offset=10), {"Range": "0-9"}, id="range"),
        pytest.param(errors.RangeInvalid("x", offset=0), {"Range": "0-0"}, id="range-of-nothing"),
        pytest.param(errors.RangeInvalid("x"), {}, id="range-unknown"),
        pytest.param(errors.BlobRangeInvalid("x", size=5), {"Content-Range": "bytes */5"}, id="blob-range"),
        pytest.param(errors.BlobRangeInvalid("x", size=0), {"Content-Range": "bytes */0"}, id="empty-blob"),
        pytest.param(errors.TooManyRequests("x", retry_after_seconds=1.2), {"Retry-After": "2"}, id="limit"),
        pytest.param(errors.Unavailable("x", retry_after_seconds=0), {"Retry-After": "0"}, id="unavailable"),
        pytest.param(errors.Unavailable("x"), {}, id="unavailable-for-long"),
        pytest.param(errors.Unsupported("x", allow=("GET", "HEAD")), {"Allow": "GET, HEAD"}, id="method"),
        pytest.param(errors.Unauthorized("x", challenge="Basic"), {"WWW-Authenticate": "Basic"}, id="auth"),
        pytest.param(errors.ManifestUnknown("x"), {}, id="none"),
    ],
)
def test_carries_the_headers_of_its_status(error: RegistryError, headers: dict[str, str]) -> None:
    assert error.headers == headers


def test_keeps_the_challenge_out_of_the_body() -> None:
    assert b"realm" not in render(errors.Unauthorized("x", challenge='Bearer realm="https://auth"'))


def test_renders_one_error_for_each_missing_digest() -> None:
    digests = [Digest("sha256", "a" * 64), Digest("sha512", "b" * 128)]
    error = errors.ManifestBlobUnknown("missing", digests=digests, repository="app")

    assert entries(error) == [
        {
            "code": "MANIFEST_BLOB_UNKNOWN",
            "message": "missing",
            "detail": {"repository": "app", "digest": str(digest)},
        }
        for digest in digests
    ]
    assert parse(400, render(error)).detail == {"repository": "app", "digests": [str(d) for d in digests]}


def test_reads_a_missing_digest_that_is_the_whole_detail() -> None:
    body = (
        b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","detail":"sha256:x"},{"code":"MANIFEST_BLOB_UNKNOWN"}]}'
    )

    assert parse(404, body).detail == {"digests": ["sha256:x"]}


def test_api_17_renders_ascii_whatever_the_message_holds() -> None:
    body = render(RegistryError('\x1b[2J\x00"</script>\ud800é', name="\u202e"))

    assert body.isascii()
    assert body.decode().isprintable()


def test_api_17_renders_any_detail_as_json() -> None:
    (entry,) = entries(
        RegistryError(
            "x",
            digest=Digest("sha256", "a" * 64),
            offsets=(1, 2),
            ratio=0.5,
            nothing=float("nan"),
            names={"b"},
            nested={1: {"deep": None}},
            flag=True,
        )
    )

    assert entry["detail"] == {
        "digest": "sha256:" + "a" * 64,
        "offsets": [1, 2],
        "ratio": 0.5,
        "nothing": "nan",
        "names": "{'b'}",
        "nested": {"1": {"deep": None}},
        "flag": True,
    }


def test_cuts_long_messages_and_details() -> None:
    assert len(render(RegistryError("m" * 10**6, name="n" * 10**6))) < 3000


def test_leaves_empty_detail_out() -> None:
    assert entries(errors.NameUnknown("x")) == [{"code": "NAME_UNKNOWN", "message": "x"}]


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        pytest.param(404, b'{"errors":[{"code":"NAME_UNKNOWN"}]}', errors.NameUnknown, id="no-message"),
        pytest.param(
            404, b'{"errors":[{"code":"UNAUTHORIZED"}]}', errors.Unauthorized, id="code-over-status"
        ),
        pytest.param(401, b'{"errors":[{"code":"DENIED"}]}', errors.Unauthorized, id="401-over-code"),
        pytest.param(429, b'{"errors":[{"code":"DENIED"}]}', errors.TooManyRequests, id="429-over-code"),
        pytest.param(400, b'{"errors":[{"code":"TAG_INVALID"}]}', errors.RequestInvalid, id="unknown-code"),
        pytest.param(404, b"", errors.EndpointUnknown, id="empty"),
        pytest.param(413, b"<html>", errors.ManifestTooLarge, id="html"),
        pytest.param(502, b"bad gateway", errors.Unavailable, id="gateway"),
        pytest.param(418, b"{}", RegistryError, id="unknown-status"),
        pytest.param(404, b"[" * 500_000, errors.EndpointUnknown, id="deep"),
        pytest.param(404, b"1" * 5000, errors.EndpointUnknown, id="huge-integer"),
        pytest.param(404, b" " * (1024 * 1024 + 1), errors.EndpointUnknown, id="large"),
        pytest.param(404, b'{"errors":{}}', errors.EndpointUnknown, id="errors-not-a-list"),
        pytest.param(404, b'{"errors":[1, null]}', errors.EndpointUnknown, id="entries-not-objects"),
        pytest.param(404, b'{"errors":[{"code":[],"message":{}}]}', errors.EndpointUnknown, id="wrong-types"),
        pytest.param(404, b"\xff\xfe\x00", errors.EndpointUnknown, id="not-utf-8"),
    ],
)
def test_reads_other_registries(status: int, body: bytes, kind: type[RegistryError]) -> None:
    error = parse(status, body)

    assert type(error) is kind
    assert error.message


def test_reads_a_message_without_control_characters() -> None:
    body = json.dumps({"errors": [{"code": "DENIED", "message": "no\x1b]0;x\x07\n\ud800"}]}).encode()

    assert parse(403, body).message == "no�]0;x���"


def test_reads_detail_that_would_be_a_parameter() -> None:
    body = (
        b'{"errors":[{"code":"TOOMANYREQUESTS","detail":{"message":1,"self":2,"retry_after_seconds":"x"}}]}'
    )

    assert parse(429, body).detail == {"message": 1, "self": 2, "retry_after_seconds": "x"}


def test_cuts_deep_detail() -> None:
    deep = b"[" * 900 + b"]" * 900
    error = parse(403, b'{"errors":[{"code":"DENIED","detail":' + deep + b"}]}")

    assert len(render(error)) < 200


@given(st.integers(100, 599), st.binary(max_size=200))
def test_never_raises_on_rubbish(status: int, body: bytes) -> None:
    assert isinstance(parse(status, body), RegistryError)


@given(
    st.integers(100, 599),
    st.lists(
        st.dictionaries(st.sampled_from(["code", "message", "detail"]), json_values, max_size=3), max_size=3
    ),
)
def test_never_raises_on_odd_entries(status: int, odd: list[dict[str, object]]) -> None:
    error = parse(status, json.dumps({"errors": odd}).encode())

    assert render(error).isascii()


@given(
    st.text(max_size=100).filter(str.isprintable).filter(bool),
    st.dictionaries(st.text(max_size=9), json_values),
)
def test_survives_render_and_parse_with_any_detail(message: str, detail: dict[str, object]) -> None:
    error = errors.Denied(message)
    error.detail = detail

    read = parse(403, render(error))

    assert (type(read), read.message, read.detail) == (errors.Denied, message, detail)
