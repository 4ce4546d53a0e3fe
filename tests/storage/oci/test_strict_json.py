import json
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.oci import strict_json
from storage.oci.errors import ManifestInvalid
from storage.oci.strict_json import DEPTH_LIMIT, NODE_LIMIT, loads

MEBIBYTE = 1024 * 1024
LARGE = 4 * MEBIBYTE

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=30,
)


@given(json_values, st.booleans())
def test_reads_what_json_writes(value: object, ensure_ascii: bool) -> None:
    assert loads(json.dumps(value, ensure_ascii=ensure_ascii).encode()) == value


@given(st.binary(max_size=100) | st.text('[]{}",:\\u0dD8eE-+.1 ntf\ufeff', max_size=60).map(str.encode))
def test_api_09_reads_as_json_does_or_refuses(body: bytes) -> None:
    try:
        value = loads(body)
    except ManifestInvalid:
        return

    assert value == json.loads(body)
    assert loads(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut"),
        pytest.param(b"{} {}", id="two-documents"),
        pytest.param(b"{}\0", id="nul-after"),
        pytest.param(b"\xef\xbb\xbf{}", id="byte-order-mark"),
        pytest.param("{}".encode("utf-16"), id="utf-16"),
        pytest.param("{}".encode("utf-16-le"), id="utf-16-without-mark"),
        pytest.param("{}".encode("utf-32"), id="utf-32"),
        pytest.param(b'"\xff"', id="not-utf-8"),
        pytest.param(b'"\xc0\x80"', id="overlong-utf-8"),
        pytest.param(b'"\xed\xa0\x80"', id="surrogate-in-utf-8"),
        pytest.param(b'"\\ud800"', id="lone-high-surrogate"),
        pytest.param(b'"\\udc00\\ud800"', id="surrogates-swapped"),
        pytest.param(b'{"\\uDFFF": 1}', id="lone-surrogate-in-a-name"),
        pytest.param(b'{"a":[{"b":"\\ud800"}]}', id="lone-surrogate-inside"),
        pytest.param(b"NaN", id="nan"),
        pytest.param(b"[Infinity]", id="infinity"),
        pytest.param(b'{"size":-Infinity}', id="minus-infinity"),
        pytest.param(b"1e400", id="float-overflow"),
        pytest.param(b"-1E400", id="negative-float-overflow"),
        pytest.param(b"9223372036854775808", id="2^63"),
        pytest.param(b"-9223372036854775809", id="below-minus-2^63"),
        pytest.param(b"1" * 5000, id="5000-digits"),
        pytest.param(b"0." + b"1" * 5000, id="5000-decimals"),
        pytest.param(b'{"a":1,"a":1}', id="duplicate-member"),
        pytest.param(b'{"a":1,"\\u0061":1}', id="duplicate-member-escaped"),
        pytest.param(b'{"x":[{"a":1,"b":2,"a":3}]}', id="duplicate-member-inside"),
        pytest.param(b'"a\nb"', id="raw-newline-in-a-string"),
        pytest.param(b"'a'", id="single-quotes"),
        pytest.param(b"[1,]", id="trailing-comma"),
        pytest.param(b"/**/{}", id="comment"),
        pytest.param(b"[01]", id="leading-zero"),
        pytest.param(b"[}", id="brackets-of-two-kinds"),
        pytest.param(b"[" * 65 + b"]" * 65, id="65-levels"),
        pytest.param(b'{"a":' * 65 + b"1" + b"}" * 65, id="65-objects"),
        pytest.param(b"[[1]," + b"[" * 64 + b"]" * 64 + b"]", id="65-levels-beside-others"),
        pytest.param(b"[" * 100_000, id="100000-open"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="100000-levels"),
        pytest.param(b"[" + b"1," * NODE_LIMIT + b"1]", id="too-many-values"),
    ],
)
def test_api_09_refuses(body: bytes) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        loads(body)

    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("body", "value"),
    [
        pytest.param(b" {} \n", {}, id="white-space"),
        pytest.param(b'"\\ud83d\\ude00"', "\N{GRINNING FACE}", id="surrogate-pair"),
        pytest.param(b'"\\\\ud800"', "\\ud800", id="escaped-backslash"),
        pytest.param(b"[9223372036854775807,-9223372036854775808]", [2**63 - 1, -(2**63)], id="64-bits"),
        pytest.param(b"1e300", 1e300, id="large-float"),
        pytest.param(b'{"a":1,"A":2}', {"a": 1, "A": 2}, id="case-is-for-others-to-judge"),
        pytest.param(b'"' + b"[{" * 100_000 + b'\\""', "[{" * 100_000 + '"', id="brackets-in-a-string"),
    ],
)
def test_api_09_accepts(body: bytes, value: object) -> None:
    assert loads(body) == value


def test_api_09_accepts_what_is_just_within_the_limits() -> None:
    assert loads(b"[" * DEPTH_LIMIT + b"]" * DEPTH_LIMIT)
    # The array is a value too.
    assert len(loads(b"[" + b"1," * (NODE_LIMIT - 2) + b"1]")) == NODE_LIMIT - 1
    with pytest.raises(ManifestInvalid):
        loads(b"[" + b"1," * (NODE_LIMIT - 1) + b"1]")


def test_api_09_counts_depth_beside_many_brackets() -> None:
    many = b"[],{}," * 100

    assert loads(b"[" + many + b"[" * 63 + b"]" * 63 + b"]")
    with pytest.raises(ManifestInvalid):
        loads(b"[" + many + b"[" * 64 + b"]" * 64 + b"]")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * LARGE, id="open-brackets"),
        pytest.param(b'{"":' * (LARGE // 4), id="open-objects"),
        pytest.param(b"[" + b"[]," * (LARGE // 3) + b"[]]", id="empty-arrays"),
        pytest.param(b"[{" * 40 + b'"' + b'\\"' * (LARGE // 2), id="escaped-quotes-unclosed"),
        pytest.param(b"[{" * 40 + b'"' + b"\\" * LARGE, id="backslashes-unclosed"),
        pytest.param(b"[{" * 40 + b'"' * LARGE, id="quotes"),
        pytest.param(b"1" * LARGE, id="digits"),
        pytest.param(b"1e" + b"9" * LARGE, id="exponent"),
        pytest.param(b"][" * (LARGE // 2), id="closed-before-open"),
        pytest.param(b" " * LARGE, id="white-space"),
        pytest.param(b"-" * LARGE, id="signs"),
    ],
)
def test_api_09_refuses_quickly(body: bytes) -> None:
    start = time.process_time()
    with pytest.raises(ManifestInvalid):
        loads(body)

    assert time.process_time() - start < 5  # milliseconds here; quadratic work would take minutes


KNOWN = frozenset({"digest", "mediaType", "size"})


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"digest": 1, "Digest": 1}, id="beside"),
        pytest.param({"Digest": 1}, id="instead"),
        pytest.param({"MEDIATYPE": 1}, id="upper-case"),
        pytest.param({"dige\u017ft": 1}, id="long-s"),
        pytest.param({"other": 1, "OTHER": 2}, id="unknown-names"),
        pytest.param([], id="array"),
        pytest.param("digest", id="string"),
        pytest.param(None, id="null"),
    ],
)
def test_api_10_refuses_members_that_differ_by_case(value: object) -> None:
    with pytest.raises(ManifestInvalid, match=r"^thing"):
        strict_json.members(value, KNOWN, "thing")


def test_api_10_accepts_unknown_members() -> None:
    value = {"digest": 1, "x": 2, "y": 3}

    assert strict_json.members(value, KNOWN, "thing") is value


@pytest.mark.parametrize(
    ("read", "value", "result"),
    [
        pytest.param(strict_json.string, "x", "x", id="string"),
        pytest.param(strict_json.string, "", None, id="empty-string"),
        pytest.param(strict_json.string, None, None, id="null-string"),
        pytest.param(strict_json.array, [1], [1], id="array"),
        pytest.param(strict_json.array, None, [], id="null-array"),
        pytest.param(strict_json.strings, ["a", ""], ("a", ""), id="strings"),
        pytest.param(strict_json.strings, None, (), id="null-strings"),
        pytest.param(strict_json.string_map, {"a": "b"}, {"a": "b"}, id="map"),
        pytest.param(strict_json.string_map, None, {}, id="null-map"),
    ],
)
def test_reads_optional_members(read: Callable[..., object], value: object, result: object) -> None:
    assert read({"m": value}, "m", "thing") == result
    assert not read({}, "m", "thing")


@pytest.mark.parametrize(
    ("read", "value"),
    [
        pytest.param(strict_json.string, 1, id="string"),
        pytest.param(strict_json.string, False, id="false-string"),
        pytest.param(strict_json.array, {}, id="array"),
        pytest.param(strict_json.array, "", id="empty-string-array"),
        pytest.param(strict_json.strings, ["a", 1], id="strings"),
        pytest.param(strict_json.strings, "abc", id="string-strings"),
        pytest.param(strict_json.string_map, {"a": 1}, id="map"),
        pytest.param(strict_json.string_map, {"a": None}, id="map-of-null"),
        pytest.param(strict_json.string_map, [], id="array-map"),
    ],
)
def test_refuses_members_of_another_type(read: Callable[..., object], value: object) -> None:
    with pytest.raises(ManifestInvalid, match=r"^thing\.m "):
        read({"m": value}, "m", "thing")
