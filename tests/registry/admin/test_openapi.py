"""The description of the admin API is what the API does: read, walked and sent at random."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from registry.endpoints.admin import openapi
from registry.endpoints.admin.operation import Operation
from registry.endpoints.admin.table import OPERATIONS
from tests.registry.admin.stand import ROOT, SAMPLES, Stand, standing

ROWS = [pytest.param(each, id=f"{each.method} {each.path}") for each in OPERATIONS]
DOCUMENT = openapi.document()
# As many requests of each row, in each mode.
EXAMPLES = 8
# Names and numbers that are there, or were.
THERE = ("alice", "bob", "ci", "team", "1", "2")

load_all_checks()
NAMES = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
CHECKS_OF: dict[GenerationMode, list[Any]] = {
    GenerationMode.POSITIVE: [CHECKS.get_one(name) for name in NAMES],
    GenerationMode.NEGATIVE: [CHECKS.get_one(name) for name in (*NAMES, "negative_data_rejection")],
}


@pytest.fixture(scope="module")
def abused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A registry of its own: nobody knows what becomes of it."""
    with standing(tmp_path_factory.mktemp("abused")) as running:
        yield running


def test_is_served_to_everybody(stand: Stand) -> None:
    response = stand.api(None).get("/openapi.json")

    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.json() == DOCUMENT


def test_is_served_with_the_prefix_of_its_paths(tmp_path: Path) -> None:
    with standing(tmp_path, path_prefix="/registry") as stand:
        document = httpx.get(f"{stand.door.url}/registry/api/v1/openapi.json").json()
        url = f"{stand.door.url}{document['servers'][0]['url']}/whoami"
        assert httpx.get(url, auth=ROOT).json()["name"] == "root"


def test_describes_every_row_and_nothing_else() -> None:
    described = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}

    assert described == {(each.method, each.path) for each in OPERATIONS}
    assert len(described) == len(OPERATIONS)


def test_refers_to_schemas_that_are_there() -> None:
    text = json.dumps(DOCUMENT)
    referred = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}

    assert referred == set(DOCUMENT["components"]["schemas"])


@pytest.mark.parametrize("operation", ROWS)
def test_describes_what_a_row_answers(stand: Stand, operation: Operation) -> None:
    """Send what is fine; every row answers as it says, whether or not there is what the path names."""
    sample = SAMPLES[operation.id]
    response = stand.api().request(
        operation.method,
        operation.path.format(**sample.path),
        params=dict(sample.query),
        json=sample.body,
    )

    described = DOCUMENT["paths"][operation.path][operation.method.lower()]
    assert str(response.status_code) in described["responses"]
    parameters = {(each["in"], each["name"]) for each in described["parameters"]}
    assert {("path", name) for name in sample.path} | {("query", name) for name in sample.query} <= parameters
    assert ("requestBody" in described) == (sample.body is not None)


def _sent() -> Iterator[Any]:
    for each in OPERATIONS:
        for mode in GenerationMode:
            # Without a body and a query everything that can be sent is fine.
            if mode is GenerationMode.POSITIVE or each.body or each.query:
                yield pytest.param(each, mode, id=f"{each.method} {each.path} {mode.value}")


@pytest.mark.parametrize(("operation", "mode"), list(_sent()))
def test_holds_whatever_is_sent(abused: Stand, operation: Operation, mode: GenerationMode) -> None:
    """Send at random what the document allows, and what it does not."""
    # Who sends is not what is tried here: test_rights.py does.
    schema = schemathesis.openapi.from_dict(
        {key: value for key, value in DOCUMENT.items() if key != "security"}
    )
    strategy = schema[operation.path][operation.method].as_strategy(generation_mode=mode)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy, data=st.data())
    def send(case: Any, data: st.DataObject) -> None:
        for name in operation.names:
            case.path_parameters[name] = data.draw(
                st.sampled_from(THERE) | st.just(case.path_parameters[name])
            )
        case.call_and_validate(
            base_url=f"{abused.door.url}/api/v1", auth=ROOT, checks=CHECKS_OF[mode], timeout=20
        )

    send()
