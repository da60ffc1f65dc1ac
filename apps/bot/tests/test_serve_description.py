"""The description of the API is what it does: schemathesis finds nothing, in a few cases of each.

tools/fuzz_api.py sends many more, to a run of its own (tools/check.py api).
"""

import dataclasses
from pathlib import Path

import pytest
from bot.serve.server import listening, serving
from fuzz_api import fuzz
from reached import reached_run

FREE = ("/health", "/health/network")


@pytest.mark.no_cover  # what a property comes to is chance
def test_nothing_is_found_by_its_own_description(tmp_path: Path) -> None:
    """Right and wrong cases of each operation get an answer that is declared."""
    reached = reached_run(tmp_path)
    settings = reached.served.settings.model_copy(update={"address": "127.0.0.1:0"})
    served = dataclasses.replace(reached.served, settings=settings)
    with listening(settings) as server, serving(served, server) as url:
        assert fuzz(url, reached.token, 1, reached.app.openapi()) == []


def test_each_operation_declares_what_it_needs_and_what_it_may_answer(tmp_path: Path) -> None:
    """A token for all but the health, and a problem for each refusal."""
    described = reached_run(tmp_path).app.openapi()

    assert described["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            assert operation["security"] == ([] if path in FREE else [{"token": []}]), path
            assert {"401", "403", "422", "503"} <= operation["responses"].keys(), path
            assert ("409" in operation["responses"]) == (method == "post"), path
