"""What the OpenAPI document allows, and what it forbids, asked of the API: no fault, no undeclared answer."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.dashboard.site import SETTINGS, add, alarm, served
from tests.helpers import STORES, context

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module", params=STORES)
def schema(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    c = context(tmp_path_factory.mktemp("site"), SETTINGS, lambda: datetime.now(UTC), "dashboard", request.param)
    for number in range(1, 6):
        add(c, number, f"Story {number}")
    alarm(c)
    with served(c) as url:
        yield schemathesis.openapi.from_url(f"{url}/api/v1/openapi.json").exclude(path="/live")


api = schemathesis.pytest.from_fixture("schema")


@api.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_answer_is_undeclared(case: schemathesis.Case) -> None:
    case.call_and_validate(checks=CHECKS)
