"""Graders over HTTP, asked by OpenAI's own client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.graders import MultiGrader, StringCheckGrader

from tests.server.api.conftest import Server, StartServer
from tests.server.grading.conftest import python

__all__ = ["python"]

CHECK: Any = {
    "type": "string_check",
    "name": "exact",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "operation": "eq",
}
JUDGED: Any = {
    "type": "score_model",
    "name": "judged",
    "model": "tiny",
    "input": [{"role": "user", "content": "{{sample.output_text}}"}],
    "sampling_params": {"max_completions_tokens": 3},
}
SCRIPT: Any = {"type": "python", "name": "script", "source": "def grade(sample, item): return len(item['answer']) / 4"}


async def test_run(server: Server) -> None:
    graders = server.openai.fine_tuning.alpha.graders
    ran = await graders.run(grader=CHECK, model_sample="7", item={"answer": "7"})
    assert (ran.reward, ran.metadata.name, ran.metadata.type) == (1.0, "exact", "string_check")
    assert ran.metadata.scores == {"exact": 1.0}
    errors = ran.metadata.errors.to_dict()
    assert not any(errors.pop(name) for name in list(errors))
    ran = await graders.run(grader=CHECK, model_sample="7", item={})
    assert (ran.reward, ran.metadata.errors.invalid_variable_error) == (0.0, True)
    assert ran.metadata.errors.to_dict()["error_details"] == ['exact: item.answer is missing: item holds no "answer"']


async def test_run_several(server: Server) -> None:
    multi: Any = {
        "type": "multi",
        "name": "all",
        "graders": {"exact": CHECK, "near": {**CHECK, "type": "text_similarity", "evaluation_metric": "fuzzy_match"}},
        "calculate_output": "0.5 * exact + 0.5 * near",
    }
    del multi["graders"]["near"]["operation"]
    ran = await server.openai.fine_tuning.alpha.graders.run(
        grader=multi, model_sample="kitten", item={"answer": "sitting"}
    )
    assert ran.reward == pytest.approx(4 / 13)
    assert ran.sub_rewards == {"exact": 0.0, "near": pytest.approx(8 / 13)}


async def test_a_model_that_says_no_number(server: Server) -> None:
    """The scripted engine follows no schema, and ends where its room does."""
    ran = await server.openai.fine_tuning.alpha.graders.run(grader=JUDGED, model_sample="7")
    assert (ran.reward, ran.metadata.errors.api_model_grader_parse_error) == (0.0, True)
    assert ran.api_model_grader_token_usage_per_model == {"tiny": ran.metadata.token_usage}
    nobody: Any = {**JUDGED, "model": "nobody"}
    ran = await server.openai.fine_tuning.alpha.graders.run(grader=nobody, model_sample="7")
    assert "nobody" in (ran.metadata.errors.api_model_grader_server_error_details or "")


async def test_validate(server: Server) -> None:
    graders = server.openai.fine_tuning.alpha.graders
    found = (await graders.validate(grader=CHECK)).grader
    assert isinstance(found, StringCheckGrader)
    assert found.operation == "eq"
    multi: Any = {"type": "multi", "name": "m", "graders": CHECK, "calculate_output": "exact"}
    assert isinstance((await graders.validate(grader=multi)).grader, MultiGrader)


async def test_what_is_wrong_is_told_at_once(server: Server) -> None:
    multi: Any = {
        "type": "multi",
        "name": "m",
        "graders": {"a": {**CHECK, "operation": "gt"}, "b": SCRIPT, "c": {**JUDGED, "range": [1, 0]}},
        "calculate_output": "a + d",
    }
    with pytest.raises(openai.BadRequestError) as caught:
        await server.openai.fine_tuning.alpha.graders.validate(grader=multi)
    assert caught.value.param == (
        "grader.graders.a.operation, grader.graders.b.type, grader.graders.c.range, grader.calculate_output"
    )
    assert "--python-graders" in caught.value.message
    nobody: Any = {**JUDGED, "model": "nobody"}
    with pytest.raises(openai.BadRequestError, match="nobody"):
        await server.openai.fine_tuning.alpha.graders.validate(grader=nobody)
    body = {"grader": CHECK, "model_sample": 7, "item": [], "more": 1}
    answer = await server.http.post("/v1/fine_tuning/alpha/graders/run", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "more, model_sample, item")


async def test_scripts_where_the_operator_allows_them(start_server: StartServer, python: Path) -> None:
    server = await start_server(python_graders=True, python_grader_executable=python, python_grader_seconds=60.0)
    graders = server.openai.fine_tuning.alpha.graders
    assert (await graders.validate(grader=SCRIPT)).grader is not None
    ran = await graders.run(grader=SCRIPT, model_sample="7", item={"answer": "abc"})
    assert ran.reward == 0.75
    ran = await graders.run(grader=SCRIPT, model_sample="7")
    assert (ran.reward, ran.metadata.errors.python_grader_runtime_error) == (0.0, True)
    assert "KeyError" in (ran.metadata.errors.python_grader_runtime_error_details or "")
    broken: Any = {**SCRIPT, "source": "def grade("}
    with pytest.raises(openai.BadRequestError, match="SyntaxError"):
        await graders.validate(grader=broken)


async def test_scripts_where_the_sandbox_does_not_hold(start_server: StartServer) -> None:
    """The server starts, says why, and refuses such graders."""
    server = await start_server(python_graders=True, python_grader_executable=Path("/nowhere/python"))
    with pytest.raises(openai.BadRequestError, match="/nowhere/python is no Python that runs"):
        await server.openai.fine_tuning.alpha.graders.validate(grader=SCRIPT)
    assert (await server.openai.fine_tuning.alpha.graders.run(grader=CHECK, model_sample="7")).reward == 0
