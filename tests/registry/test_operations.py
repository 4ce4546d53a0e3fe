"""Health and metrics, on the first listener or on one of their own."""

import uuid
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from registry.app import create_app, create_operations_app
from registry.routes import Resource
from registry.settings import Settings
from tests.registry.conftest import serving
from tests.registry.pushing import Repository, error_code


def samples(http: httpx.Client) -> dict[tuple[str, ...], float]:
    """Read /metrics: (name, label values sorted by label) -> value."""
    response = http.get("/metrics")
    assert response.status_code == 200
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/livez", "alive\n"),
        ("/readyz", "ready\n"),
        ("/", f"cargohold {version('cargohold')}, an OCI registry. Its API starts at /v2/\n"),
    ],
)
def test_tells_in_a_word_how_it_is(http: httpx.Client, path: str, text: str) -> None:
    response, head = http.get(path), http.head(path)

    assert (response.status_code, response.text) == (200, text)
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(text))
    assert http.get(f"{path}?verbose=1").status_code == 200


@pytest.mark.parametrize(
    "path", ["/livez/", "/healthz", "/Livez", "/metrics/", "/debug/pprof/", "/index.html"]
)
def test_knows_no_other_path(http: httpx.Client, path: str) -> None:
    response = http.get(path)

    assert (response.status_code, error_code(response)) == (404, "UNSUPPORTED")


def test_metrics_count_each_request_once(http: httpx.Client, repository: Repository) -> None:
    repository.push_image("v1")
    before = samples(http)

    repository.get("manifests/v1")
    repository.get("manifests/none")
    repository.http.head(f"{repository.url}/manifests/v1")

    after = samples(http)
    for method, status in (("GET", "200"), ("GET", "404"), ("HEAD", "200")):
        key = ("cargohold_requests_total", method, "manifest", status)
        assert after[key] == before.get(key, 0) + 1
    timed = ("cargohold_request_seconds_count", "manifest")
    assert after[timed] == before[timed] + 3


def test_metrics_tell_connections_and_free_space(http: httpx.Client, registry_url: str) -> None:
    before = samples(http)
    with httpx.Client(base_url=registry_url) as another:
        assert another.get("/readyz").status_code == 200
        assert samples(http)["cargohold_connections",] == before["cargohold_connections",] + 1
    assert samples(http)["cargohold_free_bytes",] > 0


def test_metrics_tell_the_bytes_of_blobs(http: httpx.Client, repository: Repository) -> None:
    content = uuid.uuid4().bytes * 1000
    before = samples(http)

    digest = repository.push_blob(content)
    repository.get(f"blobs/{digest}")
    repository.get(f"blobs/{digest}", Range="bytes=0-99")

    after = samples(http)
    received, sent = ("cargohold_blob_bytes_received_total",), ("cargohold_blob_bytes_sent_total",)
    assert after[received] == before[received] + len(content)
    assert after[sent] == before[sent] + len(content) + 100


def test_ops_04_no_caller_can_invent_a_label(http: httpx.Client, repository: Repository) -> None:
    for path in (f"/v2/canary/{repository.name}/tags/list", "/v2/canary", "/canary", "/v2/_catalog?canary=1"):
        http.get(path, headers={"User-Agent": "canary"})
        http.request("OPTIONS", path)

    assert "canary" not in http.get("/metrics").text
    resources = {key[2] for key in samples(http) if key[0] == "cargohold_requests_total"}
    assert resources <= {"none", *(resource.value for resource in Resource)}


def test_a_listener_of_their_own_has_health_and_metrics_and_nothing_else(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, access_log=False, metrics_listen="127.0.0.1:0")
    with serving(settings, create_app(settings)) as url, httpx.Client(base_url=url) as http:
        for path in ("/", "/livez", "/readyz", "/metrics"):
            response = http.get(path)
            assert (response.status_code, error_code(response)) == (404, "UNSUPPORTED")
        assert http.get("/v2/").status_code == 200
    with serving(settings, create_operations_app(settings)) as url, httpx.Client(base_url=url) as http:
        assert http.get("/readyz").text == "ready\n"
        assert samples(http)["cargohold_free_bytes",] > 0
        for path in ("/v2/", "/v2/_catalog"):
            response = http.get(path)
            assert (response.status_code, error_code(response)) == (404, "UNSUPPORTED")


def test_ops_09_readyz_says_that_the_disk_is_full(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, access_log=False, free_space_floor=1 << 60)
    with serving(settings) as url, httpx.Client(base_url=url) as http:
        response = http.get("/readyz")

        assert (response.status_code, error_code(response)) == (507, "INSUFFICIENT_STORAGE")
        assert http.get("/livez").status_code == 200, "a restart would not help"
        assert http.get("/metrics").status_code == 200
