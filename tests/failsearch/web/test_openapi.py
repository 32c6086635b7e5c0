"""The JSON API keeps to its own description, whatever is sent."""

import shutil
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation

from failsearch.web.app import create_app
from failsearch.web.security import TOKEN_HEADER, Guard

GUARD = Guard(frozenset({"testserver"}))
# A description says that a condition is text; whether the text names a column, no schema can say.
ACCEPTED = ["2xx", "400", "404", "409"]
CONFIG = schemathesis.Config.from_dict(
    {"checks": {"positive_data_acceptance": {"expected-statuses": ACCEPTED}}}
)
EXAMPLES = 12
"""Of each operation, of what its description allows and of what it forbids."""


@pytest.fixture(scope="module")
def operations(hostile_index: Path, tmp_path_factory: pytest.TempPathFactory) -> list[APIOperation]:
    own = shutil.copytree(hostile_index, tmp_path_factory.mktemp("openapi") / "own.lancedb")
    app = create_app(Path(own), GUARD)
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", app, config=CONFIG)
    return [found.ok() for found in schema.get_all_operations()]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_answer_is_as_described(operations: list[APIOperation], mode: GenerationMode) -> None:
    for operation in operations:
        if mode is GenerationMode.NEGATIVE and not (operation.query or operation.body):
            continue  # nothing to be wrong about

        @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Case) -> None:
            case.call_and_validate(headers={TOKEN_HEADER: GUARD.form_token})

        check()
