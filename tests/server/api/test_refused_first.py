"""What will be refused is refused at once: it neither waits for a place nor loads an adapter; and both fronts say why
in the same words.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from graft.server.admission.policy import Admission
from graft.v1 import inference_pb2 as pb
from tests.server.api.conftest import Server, StartServer
from tests.server.api.grpc.test_grpc import details_of, until
from tests.server.api.scripted.engine import MAX_MODEL_TOKENS, ScriptedTokenizer

LONG = "x" * MAX_MODEL_TOKENS


@dataclass(frozen=True, kw_only=True)
class Cause:
    """One mistake, as each front can make it. `http` goes to completions, or to chat where it has messages."""

    id: str
    grpc: pb.GenerateRequest
    http: dict[str, Any]
    grpc_field: str
    http_field: str

    def __str__(self) -> str:
        return self.id


def number(name: str, value: Any) -> Cause:
    request = pb.GenerateRequest(prompt=pb.Prompt(text="x"), sampling=pb.Sampling(**{name: value}))
    http = {"prompt": "x", name: value}
    return Cause(id=f"{name} {value}", grpc=request, http=http, grpc_field=f"sampling.{name}", http_field=name)


def prompt(id: str, content: pb.Prompt, http: dict[str, Any], grpc_field: str, http_field: str) -> Cause:
    request = pb.GenerateRequest(prompt=content)
    return Cause(id=id, grpc=request, http=http, grpc_field=grpc_field, http_field=http_field)


def chat(role: str, content: str = "x") -> tuple[pb.Prompt, dict[str, Any]]:
    turn = {"role": role, "content": content}
    return pb.Prompt(chat=pb.Chat(messages=[pb.Message(**turn)])), {"messages": [turn]}


CAUSES = [
    number("temperature", 2.5),
    number("top_p", 1.5),
    number("min_p", -1),
    number("presence_penalty", 3),
    number("repetition_penalty", 0),
    number("top_k", 2**32 - 1),
    number("stop", ["x"] * 17),
    prompt("role", *chat("wizard"), "prompt.chat.messages[0].role", "messages[0].role"),
    prompt("no turns", pb.Prompt(chat=pb.Chat()), {"messages": []}, "prompt.chat.messages", "messages"),
    prompt("long chat", *chat("user", LONG), "prompt.chat.messages", "messages"),
    prompt("long text", pb.Prompt(text=LONG), {"prompt": LONG}, "prompt.text", "prompt"),
    prompt("vast text", pb.Prompt(text=LONG * 65), {"prompt": LONG * 65}, "prompt.text", "prompt"),
    prompt(
        "long ids",
        pb.Prompt(token_ids=pb.TokenIds(ids=[1] * MAX_MODEL_TOKENS)),
        {"prompt": [1] * MAX_MODEL_TOKENS},
        "prompt.token_ids.ids",
        "prompt",
    ),
    prompt(
        "unknown id",
        pb.Prompt(token_ids=pb.TokenIds(ids=[1, 40])),
        {"prompt": [1, 40]},
        "prompt.token_ids.ids[1]",
        "prompt[1]",
    ),
]


SCHEMA = Cause(
    id="schema",
    grpc=pb.GenerateRequest(prompt=pb.Prompt(text="x"), sampling=pb.Sampling(json_schema='{"type": "nothing"}')),
    http={"prompt": "x", "structured_outputs": {"json": {"type": "nothing"}}},
    grpc_field="sampling.json_schema",
    http_field="structured_outputs.json",
)


@pytest.mark.parametrize("cause", CAUSES, ids=str)
async def test_the_same_cause_has_the_same_words(server: Server, cause: Cause) -> None:
    code, details = await details_of(server.inference.Generate(cause.grpc))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    (violation,) = details[error_details_pb2.BadRequest].field_violations
    path = "/v1/chat/completions" if "messages" in cause.http else "/v1/completions"
    response = await server.http.post(path, json={"model": "tiny", **cause.http})
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, cause.http_field), error
    assert violation.field == cause.grpc_field
    assert error["message"] == f"{cause.http_field}: {violation.description}"
    assert server.script.num_started == 0


async def test_a_base_without_chat_template_says_so_on_both_fronts(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ScriptedTokenizer, "template_variables", None)
    content, http = chat("user")
    _, details = await details_of(server.inference.Generate(pb.GenerateRequest(prompt=content)))
    (violation,) = details[error_details_pb2.BadRequest].field_violations
    error = (await server.http.post("/v1/chat/completions", json={"model": "tiny", **http})).json()["error"]
    assert error["message"] == f"messages: {violation.description}"
    assert "no chat template" in error["message"] and "as text" in error["message"]


async def test_a_request_to_be_refused_neither_waits_nor_loads(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server(max_running=1, num_slots=2)
    for name, seed in (("joe", 1), ("ann", 2), ("tim", 3)):
        await server.imported(name, seed=seed)
    server.script.hang = True
    running = asyncio.ensure_future(server.http.post("/v1/completions", json={"model": "tiny", "prompt": "x"}))
    await until(lambda: len(server.script.active) == 1)
    loads, offered = server.metric("graft_adapter_loads_total"), list[str]()
    monkeypatch.setattr(Admission, "offer", lambda admission, request_id, **others: offered.append(request_id))
    async with asyncio.timeout(60):
        for cause in [*CAUSES, SCHEMA]:
            path = "/v1/chat/completions" if "messages" in cause.http else "/v1/completions"
            response = await server.http.post(path, json={"model": "tim@1", **cause.http})
            assert response.status_code == 400
            cause.grpc.model = "tim@1"
            code, _ = await details_of(server.inference.Generate(cause.grpc))
            assert code is grpc.StatusCode.INVALID_ARGUMENT
        scored = pb.ScoreRequest(model="tim@1", prompt=pb.Prompt(text="x"), continuations=[LONG])
        assert (await details_of(server.inference.Score(scored)))[0] is grpc.StatusCode.INVALID_ARGUMENT
        unknown = {"model": "nobody", "prompt": "x"}
        assert (await server.http.post("/v1/completions", json=unknown)).status_code == 404
    assert server.metric("graft_adapter_loads_total") == loads
    assert not offered and server.metric("graft_queued_requests") == 0 and len(server.script.active) == 1
    running.cancel()
    await until(lambda: not server.script.active)


async def test_continuations_are_texts_or_ids(server: Server) -> None:
    text, ids = pb.Prompt(text="x"), pb.TokenIds
    by_ids = pb.ScoreRequest(prompt=text, continuation_ids=[ids(ids=[3, 4]), ids(ids=[5])])
    response = await server.inference.Score(by_ids)
    assert [[one.token_id for one in score.tokens] for score in response.scores] == [[3, 4], [5]]
    for request, field in (
        (
            pb.ScoreRequest(prompt=text, continuations=["a"], continuation_ids=[ids(ids=[1])]),
            "continuation_ids",
        ),
        (pb.ScoreRequest(prompt=text, continuation_ids=[ids()]), "continuation_ids[0].ids"),
        (pb.ScoreRequest(prompt=text, continuation_ids=[ids(ids=[40])]), "continuation_ids[0].ids[0]"),
        (pb.ScoreRequest(prompt=text), "continuations"),
        (
            pb.ScoreRequest(prompt=text, continuation_ids=[ids(ids=[1] * MAX_MODEL_TOKENS)]),
            "continuation_ids[0]",
        ),
    ):
        code, details = await details_of(server.inference.Score(request))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert [one.field for one in details[error_details_pb2.BadRequest].field_violations] == [field]
