"""Counters for Prometheus. Labels are a resource, a method and a status: nothing that a caller can invent.

With several workers the server sets PROMETHEUS_MULTIPROC_DIR before this is imported; every worker then
keeps its numbers in a file there, and any process can sum them.
"""

import os
from functools import cache

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST

_OWN = CollectorRegistry()

_REQUESTS = Counter(
    "cargohold_requests_total", "Requests answered.", ["resource", "method", "status"], registry=_OWN
)
_SECONDS = Histogram(
    "cargohold_request_seconds",
    "Time from a request's headers to the end of its answer.",
    ["resource"],
    buckets=(0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 600),
    registry=_OWN,
)
_SENT = Counter("cargohold_blob_bytes_sent_total", "Bytes of blobs in answers.", registry=_OWN)
_RECEIVED = Counter("cargohold_blob_bytes_received_total", "Bytes of blobs acknowledged.", registry=_OWN)
CONNECTIONS = Gauge(
    "cargohold_connections", "Open client connections.", registry=_OWN, multiprocess_mode="livesum"
)
HANDSHAKES_FAILED = Counter(
    "cargohold_tls_handshakes_failed_total",
    "Connections that ended before TLS was set up: too many, too slow, not TLS, or refused by it.",
    ["reason"],
    registry=_OWN,
)
CERTIFICATE_EXPIRES = Gauge(
    "cargohold_tls_certificate_expires_seconds",
    "When the certificate ends, in seconds since 1970; 0 without TLS.",
    registry=_OWN,
    multiprocess_mode="mostrecent",
)
COLLECTED = Counter("cargohold_collected_total", "Things the collector removed.", ["kind"], registry=_OWN)
FREE_BYTES = Gauge(
    "cargohold_free_bytes", "Free bytes of the blob store.", registry=_OWN, multiprocess_mode="mostrecent"
)

ISSUER_KEYS_BROKEN = Gauge(
    "cargohold_issuer_keys_broken",
    "1 while the token issuer's files cannot be used and older keys count.",
    registry=_OWN,
    multiprocess_mode="livemax",
)


@cache
def _request(resource: str, method: str, status: int) -> Counter:
    return _REQUESTS.labels(resource, method, str(status))


@cache
def _seconds(resource: str) -> Histogram:
    return _SECONDS.labels(resource)


def count_request(resource: str, method: str, status: int, seconds: float) -> None:
    """Count one answered request."""
    _request(resource, method, status).inc()
    _seconds(resource).observe(seconds)


def count_sent(size: int) -> None:
    _SENT.inc(size)


def count_received(size: int) -> None:
    _RECEIVED.inc(size)


def render() -> bytes:
    """Write every metric in Prometheus' text format, summed over the workers."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(_OWN)
    summed = CollectorRegistry()
    MultiProcessCollector(summed)  # type: ignore[no-untyped-call]  # the library has no annotations there
    return generate_latest(summed)
