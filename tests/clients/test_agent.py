"""An agent: two tools, and an adapter that is trained here to call them, in a loop with the official client."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from graft.adapters.base.base import Base, find_base
from graft.client import Client
from graft.training.finetune.job import Finetune
from graft.training.finetune.settings import FinetuneSettings
from tests.clients.agent import TOOLS, question, rows
from tests.running import Server

pytestmark = pytest.mark.slow
NUM_ROWS, NUM_QUESTIONS = 480, 20


@pytest.fixture(scope="module")
def api(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.http}/v1", api_key="unused", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def agent(client: Client, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An adapter's name."""
    folder = tmp_path_factory.mktemp("agent")
    data = folder / "rows.jsonl"
    data.write_text(rows(NUM_ROWS, seed=0))
    settings = {"max_length": 768, "num_train_epochs": 1, "per_device_train_batch_size": 8, "learning_rate": 0.005}
    training = Finetune(
        base=Base.from_folder(find_base("rootstock-5m")),
        data=data,
        settings=FinetuneSettings.from_mapping(settings),
        work=Path(folder / "run"),
    )
    client.push_adapter(training.execute(), name="agent", alias="stable")
    return "agent"


def run(api: openai.OpenAI, model: str, asked: str, result: str) -> tuple[list[tuple[str, Any]], str]:
    """Asks until no tool is called. Returns the calls and what was said last."""
    messages: list[Any] = [{"role": "user", "content": asked}]
    calls: list[tuple[str, Any]] = []
    for _ in range(3):
        listed: Any = [tool.listed() for tool in TOOLS]
        answer = api.chat.completions.create(
            model=model, messages=messages, tools=listed, temperature=0, max_completion_tokens=100
        )
        message = answer.choices[0].message
        messages.append(message)
        if not message.tool_calls:
            return calls, message.content or ""
        for call in message.tool_calls:
            calls.append((call.function.name, json.loads(call.function.arguments)))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    return calls, ""


def test_an_agent_calls_its_tools_and_says_what_they_found(api: openai.OpenAI, agent: str) -> None:
    chance = random.Random(1)
    rightly_called = rightly_said = 0
    for _ in range(NUM_QUESTIONS):
        asked, name, arguments, result = question(chance)
        calls, said = run(api, agent, asked, result)
        rightly_called += calls == [(name, arguments)]
        rightly_said += calls == [(name, arguments)] and said == f"It is {result}."
    print(f"of {NUM_QUESTIONS}: {rightly_called} called rightly, {rightly_said} answered rightly")
    assert rightly_called >= 16 and rightly_said >= 14
