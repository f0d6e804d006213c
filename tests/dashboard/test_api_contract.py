"""What the OpenAPI document allows, and what it forbids, asked of the API: no fault, no undeclared answer."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.dashboard.site import SETTINGS, add, alarm, served
from tests.helpers import STORES, context

PATHS = (
    "/sentiment",
    "/stories",
    "/articles/{id}",
    "/search",
    "/incidents",
    "/series",
    "/entities",
    "/sources",
    "/trail",
)
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
FEW = 15


@pytest.fixture(scope="module", params=STORES)
def schema(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    c = context(tmp_path_factory.mktemp("site"), SETTINGS, lambda: datetime.now(UTC), "dashboard", request.param)
    for number in range(1, 6):
        add(c, number, f"Story {number}")
    alarm(c)
    with served(c) as url:
        yield schemathesis.openapi.from_url(f"{url}/api/v1/openapi.json")


def test_every_path_is_asked(schema: Any) -> None:
    assert {operation.ok().path for operation in schema.get_all_operations()} == {*PATHS, "/live"}


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("examples", [FEW, pytest.param(300, marks=pytest.mark.long)])
def test_no_answer_is_undeclared(schema: Any, path: str, mode: GenerationMode, examples: int) -> None:
    cases = schema[path]["GET"].as_strategy(generation_mode=mode)

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=cases)
    def ask(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=CHECKS, timeout=30)

    ask()
