"""What an operator relies on: nothing is open that was not opened, and content is never more than data."""

import json
from pathlib import Path

import httpx
import pytest

from registry.settings import Settings
from storage.oci.digest import Digest
from storage.oci.media_types import IMAGE_CONFIG
from tests.registry.conftest import serving
from tests.registry.pushing import OCTETS, Repository, error_code, image, with_digest

ORIGIN = {"Origin": "https://evil.example", "Access-Control-Request-Method": "PUT"}


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/v2/", "/v2/_catalog", "/v2/a/manifests/v1", "/token", "/metrics", "/"])
def test_ops_06_no_other_site_may_read_an_answer(http: httpx.Client, method: str, path: str) -> None:
    response = http.request(method, path, headers=ORIGIN)

    assert not [name for name in response.headers if name.startswith("access-control-")]
    assert "evil.example" not in str(response.headers)


def test_ops_06_no_answer_leads_elsewhere(http: httpx.Client, repository: Repository) -> None:
    """A Host or a forwarded header that somebody else chose never comes back as a place to go."""
    forged = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}
    for method, path in (("POST", f"{repository.url}/blobs/uploads/"), ("GET", "/v2/_catalog?n=1")):
        response = http.request(method, path, headers=forged)
        assert "evil.example" not in str(response.headers)
        assert response.headers.get("Location", "/").startswith("/")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "blobs/uploads/"),
        ("POST", f"blobs/uploads/?mount={Digest.of(b'layer')}&from=a/b"),
        ("POST", f"blobs/uploads/?digest={Digest.of(b'')}"),
        ("PUT", "manifests/v1"),
        ("DELETE", "manifests/v1"),
        ("DELETE", f"blobs/{Digest.of(b'layer')}"),
    ],
)
def test_read_only_refuses_every_change_and_serves_every_read(tmp_path: Path, method: str, path: str) -> None:
    with serving(Settings(data=tmp_path, access_log=False)) as url, httpx.Client(base_url=url) as http:
        body = Repository(http, "a/b").push_image("v1", b"layer")
    read_only = Settings(data=tmp_path, access_log=False, read_only=True)
    with serving(read_only) as url, httpx.Client(base_url=url) as http:
        response = http.request(method, f"/v2/a/b/{path}", content=body if method == "PUT" else None)
        assert (response.status_code, error_code(response)) == (403, "DENIED")
        repository = Repository(http, "a/b")
        assert repository.get("manifests/v1").content == body
        assert repository.get(f"blobs/{Digest.of(b'layer')}").content == b"layer"
        assert repository.get("tags/list").json()["tags"] == ["v1"]
        assert http.get("/v2/_catalog").json()["repositories"] == ["a/b"]


def test_read_only_also_refuses_to_go_on_with_an_upload(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, access_log=False)
    with serving(settings) as url, httpx.Client(base_url=url) as http:
        location = Repository(http, "a/b").begin()
        settings.adopt(Settings(data=tmp_path, read_only=True))
        for method in ("PATCH", "PUT", "DELETE"):
            response = http.request(method, with_digest(location, Digest.of(b"x")), headers=OCTETS)
            assert (response.status_code, error_code(response)) == (403, "DENIED")


def test_ops_10_an_upload_that_expires_while_it_is_written_ends_cleanly(tmp_path: Path) -> None:
    """The collector wins between two requests and loses to one: never half of each."""
    settings = Settings(data=tmp_path, access_log=False, upload_seconds=0.001, collect_every_seconds=0.001)
    with serving(settings) as url, httpx.Client(base_url=url) as http:
        repository = Repository(http, "a/b")
        ended = 0
        while not ended:
            location, offset = repository.begin(), 0
            for _ in range(50):
                response = http.patch(location, content=b"0123456789", headers=OCTETS)
                if response.status_code == 416:
                    # The collector looks at it right now: afterwards it is gone, or as it was.
                    response = http.get(location)
                    if response.status_code == 204:
                        assert response.headers["Range"] == f"0-{max(offset - 1, 0)}"
                        continue
                if response.status_code == 404:
                    assert error_code(response) == "BLOB_UPLOAD_UNKNOWN"
                    ended += 1
                    break
                assert response.status_code == 202, response.text
                offset += 10
                assert response.headers["Range"] == f"0-{offset - 1}", "nothing that was told is lost"
                location = response.headers["Location"]
        assert http.get(location).status_code == 404
    assert not [
        path for path in (tmp_path / "uploads").iterdir() if path.is_file() and path.stat().st_size > 500
    ]


# Every field of a config that some other program has run, or printed, or joined to a path.
HOSTILE = "$(touch owned); `touch owned`; {0.__class__} %s %n ../../../etc/passwd \n\u001b[2J <script>"


def test_ops_12_an_image_config_is_data(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.dumps(
        {
            "architecture": HOSTILE,
            "os": HOSTILE,
            "config": {
                "User": HOSTILE,
                "WorkingDir": HOSTILE,
                "Labels": {HOSTILE: HOSTILE},
                "Env": [HOSTILE],
                "Entrypoint": [HOSTILE],
                "Volumes": {HOSTILE: {}},
            },
        }
    ).encode()
    monkeypatch.chdir(tmp_path)
    with serving(Settings(data=tmp_path / "data")) as url, httpx.Client(base_url=url) as http:
        repository = Repository(http, "a/b")
        digest = repository.push_blob(config)
        manifest = image(config, annotations={HOSTILE: HOSTILE})
        assert repository.put_manifest("v1", manifest).status_code == 201
        served = repository.get(f"blobs/{digest}")
        listed = [repository.get("tags/list").text, http.get("/v2/_catalog").text, http.get("/metrics").text]

        assert served.content == config
        assert served.headers["Content-Type"] == "application/octet-stream" != IMAGE_CONFIG
        assert served.headers["X-Content-Type-Options"] == "nosniff"
        assert repository.get("manifests/v1").content == manifest
    said = capfd.readouterr()
    assert "touch owned" not in "".join([*listed, said.out, said.err])
    assert not list(tmp_path.rglob("owned"))


def test_ops_04_a_thousand_names_make_no_new_series(http: httpx.Client) -> None:
    def series() -> int:
        return len([line for line in http.get("/metrics").text.splitlines() if not line.startswith("#")])

    for method in ("GET", "PUT", "BREW"):
        http.request(method, "/v2/first/manifests/v1", headers={"User-Agent": "first"})
    before = series()
    for number in range(200):
        for method in ("GET", "PUT", f"BREW{number}"):
            http.request(
                method, f"/v2/name{number}/manifests/v{number}", headers={"User-Agent": f"agent/{number}"}
            )

    assert series() == before
