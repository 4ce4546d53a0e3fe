import contextlib
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.oci.errors import ManifestInvalid, RequestInvalid
from storage.oci.platform import Platform, best_match

words = st.from_regex(r"[a-z0-9_.-]{1,9}", fullmatch=True)
texts = st.builds(
    lambda os, more, architecture, variant: f"{os}{more}/{architecture}{variant}",
    st.sampled_from(["linux", "windows", "macOS"]) | words,
    st.just("") | st.from_regex(r"\([a-z0-9_.-]{0,9}(\+[a-z0-9_.-]{1,5}){0,2}\)", fullmatch=True),
    st.sampled_from(["amd64", "x86_64", "armhf", "aarch64", "ARM"]) | words,
    st.just("") | words.map("/{}".format),
)


@given(texts)
def test_prints_what_it_reads(text: str) -> None:
    platform = Platform.parse(text)

    assert Platform.parse(str(platform)) == platform
    assert Platform.from_json(platform.to_json()) == platform


@given(st.text(max_size=40) | st.text("linux/()+amd64.\n", max_size=20))
def test_reads_any_text_stably_or_refuses_it(text: str) -> None:
    with contextlib.suppress(RequestInvalid):
        platform = Platform.parse(text)
        assert Platform.parse(str(platform)) == platform


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        pytest.param("linux/amd64", Platform("linux", "amd64"), id="plain"),
        pytest.param("linux/arm64/v8", Platform("linux", "arm64", "v8"), id="variant"),
        pytest.param("Linux/AMD64", Platform("linux", "amd64"), id="case"),
        pytest.param("linux/x86_64", Platform("linux", "amd64"), id="x86_64"),
        pytest.param("linux/aarch64", Platform("linux", "arm64"), id="aarch64"),
        pytest.param("linux/armhf", Platform("linux", "arm", "v7"), id="armhf"),
        pytest.param("linux/armv6l", Platform("linux", "arm", "v6"), id="uname-of-arm"),
        pytest.param("linux/i386", Platform("linux", "386"), id="i386"),
        pytest.param("macos/arm64", Platform("darwin", "arm64"), id="macos"),
        pytest.param(
            "windows(10.0.17763)/amd64", Platform("windows", "amd64", None, "10.0.17763"), id="version"
        ),
        pytest.param(
            "windows(10.0.17763+win32k)/amd64",
            Platform("windows", "amd64", None, "10.0.17763", ("win32k",)),
            id="feature",
        ),
        pytest.param(
            "linux(+a+b)/amd64", Platform("linux", "amd64", None, None, ("a", "b")), id="only-features"
        ),
        pytest.param("linux()/amd64", Platform("linux", "amd64"), id="nothing-more"),
    ],
)
def test_reads_text(text: str, platform: Platform) -> None:
    assert Platform.parse(text) == platform


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("linux", id="os-alone"),
        pytest.param("linux/", id="no-architecture"),
        pytest.param("/amd64", id="no-os"),
        pytest.param("linux/arm/v7/x", id="four-parts"),
        pytest.param("linux/amd64\n", id="trailing-newline"),
        pytest.param("linux amd64", id="space"),
        pytest.param("linux/ämd64", id="outside-ascii"),
        pytest.param("\u212a/a", id="kelvin-that-lowers-to-k"),
        pytest.param("windows(10/amd64", id="open-parenthesis"),
        pytest.param("windows(10+)/amd64", id="empty-feature"),
        pytest.param("windows(1)(2)/amd64", id="two-parentheses"),
        pytest.param("a/" * 10**6, id="endless"),
    ],
)
def test_refuses_text(text: str) -> None:
    with pytest.raises(RequestInvalid):
        Platform.parse(text)


def test_reads_json_as_it_is_written() -> None:
    value = {
        "architecture": "x86_64",
        "os": "windows",
        "os.version": "10.0.17763.1066",
        "os.features": ["win32k"],
        "variant": "V2",
        "features": ["sse4"],
        "vendor": 1,
    }

    platform = Platform.from_json(value)

    assert platform == Platform("windows", "x86_64", "V2", "10.0.17763.1066", ("win32k",))
    assert platform.to_json() == {key: value[key] for key in value if key not in ("features", "vendor")}


@pytest.mark.parametrize(
    "value",
    [
        pytest.param([], id="array"),
        pytest.param("linux/amd64", id="string"),
        pytest.param({"os": 1, "architecture": "amd64"}, id="os"),
        pytest.param({"os": "linux", "architecture": ["amd64"]}, id="architecture"),
        pytest.param({"os": "linux", "architecture": "arm", "variant": 7}, id="variant"),
        pytest.param({"os": "linux", "architecture": "arm", "os.features": "x"}, id="features"),
        pytest.param({"os": "linux", "OS": "windows", "architecture": "amd64"}, id="case"),
    ],
)
def test_refuses_json(value: object) -> None:
    with pytest.raises(ManifestInvalid, match=r"^manifests\[3\]\.platform"):
        Platform.from_json(value, "manifests[3].platform")


def test_reads_an_empty_platform_that_matches_nothing() -> None:
    assert Platform.from_json({}) == Platform("", "")
    assert best_match(Platform("linux", "amd64"), [Platform("", "")]) is None


def offer(*texts: str | None) -> list[Platform | None]:
    """Build platforms as an index may write them, not as `parse` would."""
    parts = [text.split("/") if text else None for text in texts]
    return [
        Platform(each[0], each[1], each[2] if len(each) > 2 else None) if each else None for each in parts
    ]


@pytest.mark.parametrize(
    ("wanted", "offered", "index"),
    [
        pytest.param("linux/amd64", ("linux/arm64", "linux/amd64"), 1, id="exact"),
        pytest.param("linux/amd64", ("linux/arm64", "windows/amd64"), None, id="none"),
        pytest.param("linux/amd64", (), None, id="nothing-offered"),
        pytest.param("linux/amd64", (None, "linux/amd64", None), 1, id="without-platform"),
        pytest.param("linux/amd64", ("linux/amd64", "linux/amd64"), 0, id="first-of-equals"),
        pytest.param("linux/amd64", ("linux/amd64/v1", "linux/amd64"), 0, id="amd64-is-v1"),
        pytest.param("linux/amd64", ("linux/amd64/v2",), None, id="amd64-does-not-run-v2"),
        pytest.param(
            "linux/amd64/v3", ("linux/amd64", "linux/amd64/v2", "linux/amd64/v4"), 1, id="v3-falls-to-v2"
        ),
        pytest.param("linux/amd64/v4", ("linux/amd64", "linux/amd64/v3", "linux/amd64/v4"), 2, id="v4-exact"),
        pytest.param("linux/amd64/v2", ("linux/amd64/v3", "linux/amd64"), 1, id="v2-falls-to-none"),
        pytest.param("linux/amd64", ("linux/386", "linux/amd64"), 1, id="amd64-over-386"),
        pytest.param("linux/amd64", ("linux/arm", "linux/386"), 1, id="386-at-last"),
        pytest.param("linux/386", ("linux/amd64",), None, id="386-does-not-run-amd64"),
        pytest.param(
            "linux/arm/v7", ("linux/arm/v5", "linux/arm/v6", "linux/arm/v8"), 1, id="v7-falls-to-v6"
        ),
        pytest.param("linux/arm/v8", ("linux/arm/v5", "linux/arm/v7"), 1, id="arm-v8-falls-to-v7"),
        pytest.param("linux/arm/v5", ("linux/arm/v6", "linux/arm/v7"), None, id="v5-runs-no-higher"),
        pytest.param("linux/arm/v6", ("linux/arm", "linux/arm/v5"), 1, id="arm-is-v7"),
        pytest.param("linux/arm", ("linux/arm/v7",), 0, id="arm-runs-v7"),
        pytest.param("linux/arm/v7", ("linux/arm64",), None, id="arm-does-not-run-arm64"),
        pytest.param("linux/arm64", ("linux/arm/v7", "linux/arm64/v8"), 1, id="arm64-is-v8"),
        pytest.param("linux/arm64/v8", ("linux/arm/v8", "linux/arm64"), 1, id="v8-is-arm64"),
        pytest.param(
            "linux/arm64", ("linux/arm/v6", "linux/arm/v7", "linux/arm64/v9"), 1, id="arm64-runs-arm"
        ),
        pytest.param("linux/arm64", ("linux/arm64/v8.2",), None, id="v8-does-not-run-v8.2"),
        pytest.param("linux/arm64/v8.2", ("linux/arm64", "linux/arm64/v8.1"), 1, id="v8.2-falls-to-v8.1"),
        pytest.param(
            "linux/arm64/v9", ("linux/arm64", "linux/arm64/v8.5", "linux/arm64/v9.1"), 1, id="v9-is-v8.5"
        ),
        pytest.param("linux/arm64/v9.1", ("linux/arm64/v8.6", "linux/arm64/v9.0"), 1, id="v9.1-falls-to-v9"),
        pytest.param("linux/riscv64", ("linux/riscv64/rva22u64", "linux/riscv64"), 1, id="other-exact"),
        pytest.param("linux/riscv64/rva22u64", ("linux/riscv64",), 0, id="other-falls-to-none"),
        pytest.param("linux/amd64/odd", ("linux/amd64",), 0, id="unknown-variant-falls-to-default"),
        pytest.param("linux/amd64", ("linux/x86_64",), 0, id="alias-offered"),
        pytest.param("linux/amd64", ("Linux/AMD64",), 0, id="case-offered"),
        pytest.param("linux/arm/v7", ("linux/arm/7",), 0, id="variant-without-v"),
        pytest.param("linux/arm/v7", ("linux/armhf",), 0, id="armhf-offered"),
        pytest.param("linux/unknown", ("unknown/unknown",), None, id="attestation"),
        pytest.param("darwin/arm64", ("macOS/arm64",), 0, id="os-alias-offered"),
    ],
)
def test_chooses_the_best(wanted: str, offered: tuple[str | None, ...], index: int | None) -> None:
    assert best_match(Platform.parse(wanted), offer(*offered)) == index


@pytest.mark.parametrize(
    ("wanted", "offered", "index"),
    [
        pytest.param("10.0.17763", ("10.0.14393.1", "10.0.17763.1066"), 1, id="build"),
        pytest.param(
            "10.0.17763.2000", ("10.0.14393.1", "10.0.17763.1066"), 1, id="revision-is-not-compared"
        ),
        pytest.param("10.0.1776", ("10.0.17763.1066",), None, id="whole-parts-only"),
        pytest.param("10.0", ("10.0.17763.1066",), 0, id="short"),
        pytest.param(None, ("10.0.17763.1066",), 0, id="nothing-wanted"),
        pytest.param("10.0.17763", (None, "10.0.17763.1"), 0, id="nothing-said"),
    ],
)
def test_compares_the_build_of_windows(
    wanted: str | None, offered: tuple[str | None, ...], index: int | None
) -> None:
    platforms = [Platform("windows", "amd64", None, version) for version in offered]

    assert best_match(Platform("windows", "amd64", None, wanted), platforms) == index


def test_ignores_the_version_of_other_systems() -> None:
    offered = [Platform("linux", "amd64", None, "5.10")]

    assert best_match(Platform("linux", "amd64", None, "6.1"), offered) == 0


def test_asks_for_no_features_that_are_not_wanted() -> None:
    offered = [Platform("windows", "amd64", None, None, ("win32k",)), Platform("windows", "amd64")]

    assert best_match(Platform("windows", "amd64", None, None, ("other",)), offered) == 1
    assert best_match(Platform("windows", "amd64", None, None, ("win32k",)), offered) == 0
    assert best_match(Platform("windows", "amd64"), offered) == 0


def test_knows_this_machine() -> None:
    host = Platform.host()

    assert host.os == ("windows" if sys.platform == "win32" else "linux")
    assert Platform.parse(str(host)) == host
    assert best_match(host, [Platform("plan9", "mips"), host]) == 1


@given(st.lists(st.none() | texts.map(Platform.parse), max_size=5), texts.map(Platform.parse))
def test_always_runs_itself(others: list[Platform | None], wanted: Platform) -> None:
    index = best_match(wanted, [*others, wanted])

    assert index is not None
    assert best_match(wanted, [wanted, *others]) == 0
