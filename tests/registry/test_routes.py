"""The matcher: every path of the API reaches its resource, and no bytes reach anything else."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.routes import Resource, Route, match
from storage.oci.errors import EndpointUnknown, NameInvalid, RegistryError, RequestInvalid
from storage.oci.names import RepositoryName

# Source: distribution-spec spec.md, "Pulling manifests".
_COMPONENT = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
is_name = re.compile(rf"{_COMPONENT}(\/{_COMPONENT})*").fullmatch

DIGEST = f"sha256:{'a' * 64}"
PATHS = {
    Resource.MANIFEST: "/v2/{}/manifests/v1",
    Resource.BLOB: f"/v2/{{}}/blobs/{DIGEST}",
    Resource.UPLOADS: "/v2/{}/blobs/uploads/",
    Resource.UPLOAD: "/v2/{}/blobs/uploads/0123",
    Resource.TAGS: "/v2/{}/tags/list",
    Resource.REFERRERS: f"/v2/{{}}/referrers/{DIGEST}",
}
# Parts that the paths are made of, so that a name may look like a path.
PARTS = st.sampled_from(
    ["manifests", "blobs", "uploads", "tags", "list", "referrers", "v2", "a", "b-c", "x.y"]
)
PIECES = [
    *(b"/", b"//", b"v2", b"a", b"manifests", b"blobs", b"uploads", b"tags", b"list", b"referrers"),
    *(b"_catalog", b"..", b".", b"%2f", b"%3A", b"%00", b"\\", b"\n", b"\xc3\xa9", b"A"),
]
NAMES = st.lists(PARTS, min_size=1, max_size=6).map("/".join)
RESOURCES = st.sampled_from(list(PATHS))
UNHURRIED = settings(deadline=None)


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v2/", Route(Resource.BASE)),
        ("/v2", Route(Resource.BASE)),
        ("/v2/_catalog", Route(Resource.CATALOG)),
        ("/v2/a/blobs/uploads", Route(Resource.UPLOADS, RepositoryName("a"))),
        (f"/v2/a/blobs/sha256%3A{'a' * 64}", Route(Resource.BLOB, RepositoryName("a"), DIGEST)),
        (f"/v2/a/manifests/sha256%3a{'a' * 64}", Route(Resource.MANIFEST, RepositoryName("a"), DIGEST)),
        ("/v2/a/manifests/manifests/x", Route(Resource.MANIFEST, RepositoryName("a/manifests"), "x")),
        ("/v2/blobs/uploads/blobs/uploads/", Route(Resource.UPLOADS, RepositoryName("blobs/uploads"))),
    ],
)
def test_finds(path: str, route: Route) -> None:
    assert match(path.encode()) == route


@UNHURRIED
@given(NAMES, RESOURCES)
def test_api_01_finds_every_name_at_every_endpoint(name: str, resource: Resource) -> None:
    found = match(PATHS[resource].format(name).encode())

    assert (found.resource, str(found.name)) == (resource, name)


@UNHURRIED
@given(st.text("abz019._-/A%\\ ", min_size=1, max_size=30), RESOURCES)
def test_api_01_a_name_is_what_the_specs_expression_matches(name: str, resource: Resource) -> None:
    path = PATHS[resource].format(name).encode()
    if is_name(name):
        assert str(match(path).name) == name
    else:
        with pytest.raises(NameInvalid):
            match(path)


@UNHURRIED
@given(
    st.binary(max_size=200)
    | st.lists(st.sampled_from(PIECES), max_size=14).map(lambda pieces: b"/v2/" + b"".join(pieces))
)
def test_http_03_any_bytes_are_a_valid_name_or_refused(raw_path: bytes) -> None:
    try:
        found = match(raw_path)
    except (EndpointUnknown, NameInvalid, RequestInvalid):
        return
    assert found.name is None or is_name(found.name.value)
    assert "/" not in found.tail


def test_a_long_path_of_parts_is_matched_in_no_time() -> None:
    # 8 KiB is the longest target; an expression that backtracks would need minutes.
    for part in ("blobs/", "a/manifests/", "blobs/uploads/", "a-", "a_", "tags/list/"):
        with pytest.raises(RegistryError):
            match(f"/v2/{part * (8192 // len(part))}".encode())
