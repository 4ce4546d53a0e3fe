import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from storage.oci.digest import Digest
from storage.oci.errors import DigestInvalid, NameInvalid, RegistryError
from storage.oci.names import ImageReference, RepositoryName, Tag, parse_reference, referrers_tag

A = "a" * 64
SHA256 = f"sha256:{A}"
SHA512 = f"sha512:{A}{A}"

words = st.text("abc019", min_size=1, max_size=4)
separators = st.sampled_from([".", "_", "__", "-", "---", "/"])
names = st.builds(
    lambda first, rest: first + "".join(separator + word for separator, word in rest),
    words | st.sampled_from(["library", "localhost"]),
    st.lists(st.tuples(separators, words), max_size=8),
)
tags = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", fullmatch=True)
digests = st.sampled_from([SHA256, SHA512])
hosts = st.sampled_from(
    [
        "",
        "docker.io/",
        "index.docker.io/",
        "quay.io/",
        "localhost/",
        "Localhost/",
        "localhost:5000/",
        "[::1]:5000/",
        "[2001:DB8::1]/",
        "10.0.0.1:80/",
        "Registry/",
        "EXAMPLE.com:443/",
        "docker.io:443/",
        "xn--bcher-kva.example/",
    ]
)
near_references = st.text("aB0.:/@[]_-\n é", max_size=30)


@given(names)
def test_prints_the_name_it_reads(text: str) -> None:
    assert str(RepositoryName.parse(text)) == text


@given(tags)
def test_prints_the_tag_it_reads(text: str) -> None:
    assert str(Tag.parse(text)) == text


@given(st.text(max_size=300) | near_references)
def test_api_01_reads_any_text_exactly_or_refuses_it(text: str) -> None:
    for parse in (RepositoryName.parse, Tag.parse):
        with contextlib.suppress(NameInvalid):
            assert str(parse(text)) == text
    with contextlib.suppress(NameInvalid, DigestInvalid):
        assert str(parse_reference(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("App", id="upper-case"),
        pytest.param("app\n", id="trailing-newline"),
        pytest.param("app/", id="trailing-slash"),
        pytest.param("/app", id="leading-slash"),
        pytest.param("a//b", id="empty-component"),
        pytest.param("..", id="dot-dot"),
        pytest.param("a/../b", id="inner-dot-dot"),
        pytest.param("a..b", id="two-dots"),
        pytest.param("a___b", id="three-underscores"),
        pytest.param("a._b", id="mixed-separators"),
        pytest.param("-a", id="leading-hyphen"),
        pytest.param("a-", id="trailing-hyphen"),
        pytest.param("_catalog", id="catalog"),
        pytest.param("app/_uploads", id="uploads"),
        pytest.param("a\0b", id="nul"),
        pytest.param("a%2fb", id="percent"),
        pytest.param("a b", id="space"),
        pytest.param("a\\b", id="backslash"),
        pytest.param("naïve", id="letter-outside-ascii"),
        pytest.param("a\u0661", id="digit-outside-ascii"),
        pytest.param("a:b", id="colon"),
        pytest.param("a" * 256, id="256-characters"),
        pytest.param("a/" * 10**6, id="endless"),
    ],
)
def test_api_01_refuses_the_name(text: str) -> None:
    with pytest.raises(NameInvalid) as caught:
        RepositoryName.parse(text)

    assert len(caught.value.message) < 1000


@pytest.mark.parametrize("text", ["a", "a" * 255, "a.b_c__d-e--f/0", "blobs", "a/manifests/b", "tags/list"])
def test_api_01_accepts_the_name(text: str) -> None:
    assert RepositoryName.parse(text).value == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("v1\n", id="trailing-newline"),
        pytest.param(".v1", id="leading-dot"),
        pytest.param("-v1", id="leading-hyphen"),
        pytest.param("a" * 129, id="129-characters"),
        pytest.param("a/b", id="slash"),
        pytest.param("a+b", id="plus"),
        pytest.param("é", id="letter-outside-ascii"),
        pytest.param("a\0", id="nul"),
    ],
)
def test_api_01_refuses_the_tag(text: str) -> None:
    with pytest.raises(NameInvalid):
        Tag.parse(text)


@pytest.mark.parametrize("text", ["_", "V1.0-rc_2", "a" * 128, f"sha256-{A}", "latest", "..".join("ab")])
def test_api_01_accepts_the_tag(text: str) -> None:
    assert Tag.parse(text).value == text


def test_takes_a_reference_with_a_colon_for_a_digest() -> None:
    assert parse_reference(SHA256) == Digest("sha256", A)
    assert parse_reference("v1") == Tag("v1")
    with pytest.raises(DigestInvalid):
        parse_reference("sha256:xyz")
    with pytest.raises(NameInvalid):
        parse_reference("a/b")


@pytest.mark.parametrize(
    ("digest", "tag"),
    [
        pytest.param(SHA256, f"sha256-{A}", id="sha256"),
        pytest.param(SHA512, f"sha512-{A}", id="sha512-truncated"),
    ],
)
def test_names_the_referrers_tag(digest: str, tag: str) -> None:
    assert referrers_tag(Digest.parse(digest)) == Tag.parse(tag)


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        pytest.param("ubuntu", "docker.io/library/ubuntu:latest", "ubuntu:latest", id="official"),
        pytest.param("ubuntu:22.04", "docker.io/library/ubuntu:22.04", "ubuntu:22.04", id="official-tag"),
        pytest.param(
            f"ubuntu@{SHA256}", f"docker.io/library/ubuntu@{SHA256}", f"ubuntu@{SHA256}", id="digest"
        ),
        pytest.param(
            f"u:1@{SHA256}", f"docker.io/library/u:1@{SHA256}", f"u:1@{SHA256}", id="tag-and-digest"
        ),
        pytest.param(f"a/b@{SHA512}", f"docker.io/a/b@{SHA512}", f"a/b@{SHA512}", id="sha512"),
        pytest.param("docker.io/ubuntu", "docker.io/library/ubuntu:latest", "ubuntu:latest", id="hub-short"),
        pytest.param("docker.io/library/u", "docker.io/library/u:latest", "u:latest", id="hub-full"),
        pytest.param("index.docker.io/u", "docker.io/library/u:latest", "u:latest", id="hub-index"),
        pytest.param("registry-1.docker.io/a/b", "docker.io/a/b:latest", "a/b:latest", id="hub-registry"),
        pytest.param("Docker.IO/u", "docker.io/library/u:latest", "u:latest", id="hub-upper-case"),
        pytest.param("docker.io:443/u", "docker.io:443/u:latest", "docker.io:443/u:latest", id="hub-port"),
        pytest.param("user/app", "docker.io/user/app:latest", "user/app:latest", id="hub-user"),
        pytest.param("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest", id="hub-nested"),
        pytest.param("localhost/x", "localhost/x:latest", "localhost/x:latest", id="localhost"),
        pytest.param("localhost:5000/x:1", "localhost:5000/x:1", "localhost:5000/x:1", id="port"),
        pytest.param("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000", id="not-a-port"),
        pytest.param("host.tld/x", "host.tld/x:latest", "host.tld/x:latest", id="host"),
        pytest.param("Host.TLD/x", "host.tld/x:latest", "host.tld/x:latest", id="host-upper-case"),
        pytest.param("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest", id="ipv6"),
        pytest.param("[FE80::1]/x", "[fe80::1]/x:latest", "[fe80::1]/x:latest", id="ipv6-upper-case"),
        pytest.param("Foo/bar", "Foo/bar:latest", "Foo/bar:latest", id="upper-case-first-component"),
        pytest.param("docker.io/a.b/c", "docker.io/a.b/c:latest", "docker.io/a.b/c:latest", id="like-a-host"),
        pytest.param(
            "docker.io/localhost/c", "docker.io/localhost/c:latest", "docker.io/localhost/c:latest", id="odd"
        ),
        pytest.param(f"{A}:1", f"docker.io/library/{A}:1", f"{A}:1", id="hex-with-tag"),
        pytest.param("a" * 63, f"docker.io/library/{'a' * 63}:latest", "a" * 63 + ":latest", id="63-hex"),
        pytest.param("library", "docker.io/library/library:latest", "library:latest", id="library"),
    ],
)
def test_normalises_as_docker_does(text: str, canonical: str, familiar: str) -> None:
    image = ImageReference.parse(text)

    assert str(image) == canonical
    assert image.familiar() == familiar
    assert ImageReference.parse(canonical) == ImageReference.parse(familiar) == image


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("", NameInvalid, id="empty"),
        pytest.param(A, NameInvalid, id="image-id"),
        pytest.param("Ubuntu", NameInvalid, id="upper-case-path"),
        pytest.param("host.tld/App", NameInvalid, id="upper-case-path-after-host"),
        pytest.param("user/App", NameInvalid, id="upper-case-second-component"),
        pytest.param("app:", NameInvalid, id="empty-tag"),
        pytest.param("app@", DigestInvalid, id="empty-digest"),
        pytest.param("app@sha256:abc", DigestInvalid, id="bad-digest"),
        pytest.param(f"app@{SHA256}@{SHA256}", DigestInvalid, id="two-digests"),
        pytest.param(f"@{SHA256}", NameInvalid, id="digest-alone"),
        pytest.param("https://host.tld/app", NameInvalid, id="url"),
        pytest.param("host.tld/", NameInvalid, id="host-alone"),
        pytest.param("host.tld//app", NameInvalid, id="empty-component"),
        pytest.param("-host.tld/app", NameInvalid, id="bad-host"),
        pytest.param("ho_st.tld/app", NameInvalid, id="host-underscore"),
        pytest.param("host.tld:/app", NameInvalid, id="empty-port"),
        pytest.param("host.tld:70000/app", NameInvalid, id="port-too-large"),
        pytest.param("user@host.tld/app", DigestInvalid, id="user"),
        pytest.param("[::1/app", NameInvalid, id="open-bracket"),
        pytest.param("[:::]/app", NameInvalid, id="bad-ipv6"),
        pytest.param("[::1]", NameInvalid, id="ipv6-alone"),
        pytest.param("app\n", NameInvalid, id="trailing-newline"),
        pytest.param("app:v1\n", NameInvalid, id="trailing-newline-after-tag"),
        pytest.param("host.tld\n/app", NameInvalid, id="newline-in-host"),
        pytest.param("../app", NameInvalid, id="dot-dot"),
        pytest.param("\u017fhost.tld/app", NameInvalid, id="long-s"),
        pytest.param("a" * 300, NameInvalid, id="long-name"),
        pytest.param("a/" * 10**6, NameInvalid, id="endless"),
        pytest.param("a." + "a-" * 500 + "/b", NameInvalid, id="hard-to-match-host"),
    ],
)
def test_refuses_the_image_reference(text: str, error: type[RegistryError]) -> None:
    with pytest.raises(error):
        ImageReference.parse(text)


def test_prefers_the_digest_of_an_image() -> None:
    assert ImageReference.parse(f"app:v1@{SHA256}").reference == Digest("sha256", A)
    assert ImageReference.parse("app:v1").reference == Tag("v1")


@given(hosts, names, st.none() | tags, st.none() | digests)
@example("", "localhost/x", None, None)
@example("docker.io/", "library/library", "v1", SHA256)
def test_reads_back_both_forms_of_an_image(host: str, name: str, tag: str | None, digest: str | None) -> None:
    text = host + name + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    try:
        image = ImageReference.parse(text)
    except NameInvalid:
        # The first component is taken for a host, and is none.
        assert not host
        assert "_" in name.partition("/")[0] or "-." in name
        return

    assert ImageReference.parse(str(image)) == image
    assert ImageReference.parse(image.familiar()) == image


@given(st.text(max_size=80) | near_references)
def test_reads_any_image_reference_stably_or_refuses_it(text: str) -> None:
    with contextlib.suppress(NameInvalid, DigestInvalid):
        image = ImageReference.parse(text)
        assert ImageReference.parse(str(image)) == image
        assert str(ImageReference.parse(str(image))) == str(image)
