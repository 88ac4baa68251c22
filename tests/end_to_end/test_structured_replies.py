"""Replies of the real engine under schemas drawn over the standard's keywords, on both fronts, base and adapter."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
import jsonschema
import pytest

from graft.client import AsyncClient, InvalidArgument
from tests.running import BASE, Server
from tests.server.engine.schema.generator import Generator

MAX_TOKENS = 200
AT_ONCE = 16


@dataclass
class Outcome:
    """What became of each schema; `wrong` are finished replies that are not valid."""

    counts: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, schema: dict[str, Any], finish: str, text: str) -> None:
        self.counts[finish] += 1
        if finish == "stop":
            problem = next(jsonschema.Draft202012Validator(schema).iter_errors(json.loads(text)), None)
            if problem is not None:
                self.wrong.append(f"{json.dumps(schema)} -> {text}: {problem.message}")

    def refuse(self, message: str) -> None:
        assert "`" in message and "at `#" in message, message
        self.counts["refused"] += 1
        self.refusals[message.partition("`: ")[2][:70]] += 1

    @property
    def accepted(self) -> int:
        return self.counts["stop"] + self.counts["length"]

    def __str__(self) -> str:
        total = self.accepted + self.counts["refused"]
        shares = f"accepted {self.accepted / total:.1%}, finished {self.counts['stop'] / max(self.accepted, 1):.1%}"
        return f"{total} schemas: {shares}, invalid {len(self.wrong)}; refused: {self.refusals.most_common(8)}"


async def over_http(http: httpx.AsyncClient, model: str, seed: int, schema: dict[str, Any], outcome: Outcome) -> None:
    chat = seed % 2 == 0
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": "Answer."}]} if chat else {"prompt": "Answer: "}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    body = {"model": model, "max_tokens": MAX_TOKENS, "temperature": seed % 3 / 2, "seed": seed, **asked}
    path = "/v1/chat/completions" if chat else "/v1/completions"
    reply = (await http.post(path, json={**body, "response_format": wanted})).json()
    if "error" in reply:
        assert reply["error"]["param"].startswith("response_format"), reply
        outcome.refuse(reply["error"]["message"])
        return
    (choice,) = reply["choices"]
    outcome.add(schema, choice["finish_reason"], choice["message"]["content"] if chat else choice["text"])


async def over_grpc(client: AsyncClient, model: str, seed: int, schema: dict[str, Any], outcome: Outcome) -> None:
    model = "" if model == BASE else model
    options: dict[str, Any] = {"max_tokens": MAX_TOKENS, "temperature": seed % 3 / 2, "seed": seed}
    try:
        reply = await client.generate("Answer: ", model=model, json_schema=schema, timeout=300, **options)
    except InvalidArgument as error:
        outcome.refuse(str(error))
        return
    (choice,) = reply.choices
    outcome.add(schema, choice.finish_reason, choice.text)


async def replies(server: Server, adapter: str, seeds: range, *, strict: bool) -> Outcome:
    """A third of them over gRPC, half of them on the adapter."""
    outcome, places = Outcome(), asyncio.Semaphore(AT_ONCE)

    async def one(seed: int) -> None:
        schema = Generator(seed, strict=strict).root()
        model = adapter if seed % 4 < 2 else BASE
        async with places:
            if seed % 3 == 0:
                await over_grpc(client, model, seed, schema, outcome)
            else:
                await over_http(http, model, seed, schema, outcome)

    async with httpx.AsyncClient(base_url=server.http, timeout=300) as http, AsyncClient(server.grpc) as client:
        await asyncio.gather(*map(one, seeds))
    print(f"{'strict' if strict else 'all keywords'}: {outcome}")
    return outcome


def check(outcome: Outcome, *, accepted: float) -> None:
    assert outcome.wrong == []
    assert outcome.accepted >= accepted * (outcome.accepted + outcome.counts["refused"]), str(outcome)
    assert outcome.counts["stop"] >= 0.8 * outcome.accepted, str(outcome)


async def test_sixty_schemas(server: Server, two_versions: str) -> None:
    check(await replies(server, two_versions, range(40), strict=False), accepted=0.85)
    check(await replies(server, two_versions, range(20), strict=True), accepted=1.0)


@pytest.mark.slow
async def test_two_thousand_schemas(server: Server, two_versions: str) -> None:
    check(await replies(server, two_versions, range(1_500), strict=False), accepted=0.85)
    check(await replies(server, two_versions, range(500), strict=True), accepted=1.0)
