"""What is wrong with a large body is sought only until enough of it is known, and never in the event loop."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from graft.server.api.http import openai as http_openai
from graft.server.api.http.openai_fields import CHAT, COMPLETIONS
from graft.server.api.http.openai_request import checked
from graft.server.api.limits import MAX_SEQUENCES
from graft.server.api.messages import read_messages
from graft.server.engine.text import Text
from graft.server.errors import BadInput
from graft.server.runtime.violations import MAX_VIOLATIONS, Violations
from graft.v1 import inference_pb2 as pb
from tests.server.api.conftest import Server
from tests.server.api.scripted.engine import MAX_MODEL_TOKENS, ScriptedTokenizer

MANY = 10_000
TEXT = Text(ScriptedTokenizer(), vocab_size=40, max_model_tokens=MAX_MODEL_TOKENS)


class Counted(list[Any]):
    """A list that counts how often an entry was looked at."""

    num_seen = 0

    def __iter__(self) -> Iterator[Any]:
        for one in super().__iter__():
            self.num_seen += 1
            yield one


@pytest.mark.parametrize("entry", [1, {"type": "text", "text": "x", "a": 1}])
def test_what_is_beyond_the_violations_that_are_told_is_not_looked_at(entry: Any) -> None:
    parts, violations = Counted([entry] * MANY), Violations()
    read_messages([{"role": "user", "content": parts}], violations)
    assert parts.num_seen <= MAX_VIOLATIONS + 2
    with pytest.raises(BadInput) as caught:
        violations.raise_any()
    told = caught.value.violations
    assert len(told) == MAX_VIOLATIONS and told[-1].problem == "and more of the kind"


@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS], ids=lambda endpoint: endpoint.path)
def test_hints_are_sought_for_few_names(endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sought: list[str] = []
    monkeypatch.setattr(difflib, "get_close_matches", lambda name, *others, **more: sought.append(name) or [])
    with pytest.raises(BadInput):
        checked({"model": "m", **{f"field{index}": 1 for index in range(MANY)}}, endpoint, TEXT)
    assert len(sought) <= MAX_VIOLATIONS + 1


def test_too_many_prompts_are_refused_by_their_number() -> None:
    with pytest.raises(BadInput, match=f"has {MANY} prompts; the limit is {MAX_SEQUENCES}"):
        checked({"model": "m", "prompt": ["x"] * MANY}, COMPLETIONS, TEXT)


async def test_only_small_bodies_are_checked_in_the_event_loop(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def watched(*given: Any) -> Any:
        threads.append(threading.get_ident())
        return checked(*given)

    monkeypatch.setattr(http_openai, "checked", watched)
    for prompt in ("x", "x" * 70_000):
        await server.http.post("/v1/completions", json={"model": "tiny", "prompt": prompt})
    assert threads[0] == threading.get_ident() != threads[1]


async def test_the_tokens_of_a_long_text_are_written_beside_the_event_loop(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    monkeypatch.setattr(
        ScriptedTokenizer, "tokens", lambda self, ids: threads.append(threading.get_ident()) or list(map(str, ids))
    )
    for text in ("x", "x" * 5_000):
        await server.inference.Tokenize(pb.TokenizeRequest(prompt=pb.Prompt(text=text)))
    assert threads[0] == threading.get_ident() != threads[1]


async def test_ids_are_spelled_only_where_they_fit(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    num_spelled: list[int] = []
    monkeypatch.setattr(ScriptedTokenizer, "finished", lambda self, ids: num_spelled.append(len(ids)) or "text")
    ask = {"model": "tiny", "echo": True, "max_tokens": 2}
    for num_ids, status in ((MAX_MODEL_TOKENS, 400), (MAX_MODEL_TOKENS + 1, 400), (10, 200)):
        reply = await server.http.post("/v1/completions", json={**ask, "prompt": [[1] * num_ids, [2]]})
        assert reply.status_code == status, reply.text
    assert num_spelled == [10, 1]


async def test_a_prompt_of_more_ids_than_the_context_holds_says_so(server: Server) -> None:
    ids = [1] * (MAX_MODEL_TOKENS + 1)
    reply = await server.http.post("/v1/completions", json={"model": "tiny", "prompt": ids})
    message = reply.json()["error"]["message"]
    assert message.startswith(f"prompt: has {len(ids)} tokens; the context holds {MAX_MODEL_TOKENS}")
    with pytest.raises(Exception, match="1001 tokens"):
        await server.inference.Tokenize(pb.TokenizeRequest(prompt=pb.Prompt(token_ids=pb.TokenIds(ids=ids))))
