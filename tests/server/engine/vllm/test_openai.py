"""vLLM's OpenAI classes over a real engine: deadlines (C1), what is counted (S12), ids (S25), prompts that end (reading
10)."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from graft.adapters.base.base import Base
from graft.server.api.faults import fault_of
from graft.server.engine.engine import Prompt
from graft.server.engine.openai import OpenAIRequest, Reply
from graft.server.engine.tokenizer.tokenizer import Tokenizer
from graft.server.engine.vllm.engine import VllmEngine
from graft.server.engine.vllm.openai import VllmOpenAIBackend
from graft.server.errors import DeadlineExceeded
from graft.server.operations.metrics import Metrics, RequestMeter
from graft.server.runtime.deadlines import each_in_time, in_time

LONG = {"max_tokens": 900, "ignore_eos": True}


@dataclass(kw_only=True)
class Caller:
    """One request's id, and what its meter counted."""

    request_id: str
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    charged: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        charge = lambda prompt_tokens=0, generated_tokens=0: self.charged.append((prompt_tokens, generated_tokens))  # noqa: E731
        self.meter = RequestMeter(Metrics(self.registry), tenant="default", entered_at=0.0, charge=charge)

    def tokens(self, kind: str) -> float:
        return self.registry.get_sample_value("graft_tokens_total", {"kind": kind, "tenant": "default"}) or 0.0


Ask = Callable[[dict[str, Any], Caller], Coroutine[Any, Any, Reply]]


@pytest.fixture
def ask(engine: VllmEngine, base: Base) -> Ask:
    """Asks as serving does: a chat for `messages`, else a completion."""
    backend, tokenizer = VllmOpenAIBackend(lambda: engine, base.name), Tokenizer.from_folder(base.path)

    async def call(body: dict[str, Any], caller: Caller) -> Reply:
        if "messages" in body:
            prompts = [Prompt(token_ids=tokenizer.render_chat(body["messages"]))]
        else:
            texts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
            prompts = [Prompt(token_ids=tokenizer.encode(text), text=text) for text in texts]
        request = OpenAIRequest(fields=body, prompts=prompts)
        for index, prompt in enumerate(prompts):
            caller.meter.begins(index, len(prompt.token_ids), num_choices=request.num_choices)
        return await backend.answer(request, adapter=None, request_id=caller.request_id, meter=caller.meter)

    return call


@pytest.fixture(autouse=True)
def no_collection() -> Iterator[None]:
    """What ends only when it is collected has not ended."""
    gc.disable()
    yield
    gc.enable()


def num_running(engine: VllmEngine) -> int:
    return int(engine.llm.output_processor.get_num_unfinished_requests())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("verb", ["completion", "chat"])
async def test_c1_a_plain_request_ends_at_its_deadline_as_such(engine: VllmEngine, ask: Ask, verb: str) -> None:
    """vLLM's plain handlers make "Client disconnected" of a cancellation."""
    content = {"prompt": "a"} if verb == "completion" else {"messages": [{"role": "user", "content": "a"}]}
    caller = Caller(request_id=f"late-{verb}")
    call = ask({**content, **LONG, "n": 8}, caller)
    with pytest.raises(DeadlineExceeded):
        await in_time(call, asyncio.get_running_loop().time() + 3.0)
    await until(lambda: not num_running(engine))
    assert 0 < caller.tokens("completion") < 8 * 900


async def test_c1_a_stream_ends_at_its_deadline_as_such(engine: VllmEngine, ask: Ask) -> None:
    reply = await ask({"prompt": "a", "stream": True, **LONG, "n": 8}, Caller(request_id="late-stream"))
    assert reply.frames is not None
    await anext(reply.frames)
    with pytest.raises(DeadlineExceeded):
        async for _ in each_in_time(reply.frames, asyncio.get_running_loop().time() + 1.0):
            pass
    await until(lambda: not num_running(engine))


async def test_a_cancelled_request_stays_cancelled(engine: VllmEngine, ask: Ask) -> None:
    caller = Caller(request_id="left")
    task = asyncio.create_task(ask({"prompt": "a", **LONG, "n": 8}, caller))
    await until(lambda: caller.tokens("completion") > 50)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not num_running(engine))


@pytest.mark.parametrize("stream", [False, True])
async def test_s12_several_prompts_and_choices_count_what_usage_says(ask: Ask, stream: bool) -> None:
    caller = Caller(request_id=f"several-{stream}")
    body = {"prompt": [f"{number}+{number}?" for number in range(8)], "n": 4, "max_tokens": 12, "temperature": 1.0}
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    reply = await ask({**body, **options}, caller)
    if reply.frames is not None:
        answers = [frame async for frame in reply.frames]
    else:
        assert reply.body is not None
        answers = [reply.body]
        assert [choice["index"] for choice in reply.body["choices"]] == list(range(32))
    usage = answers[-1]["usage"]
    assert {answer["id"] for answer in answers} == {f"cmpl-several-{stream}"}
    assert caller.tokens("completion") == usage["completion_tokens"] > 32
    assert caller.tokens("prompt") == usage["prompt_tokens"]
    assert not caller.meter.num_open
    assert sum(prompt for prompt, _ in caller.charged) == usage["prompt_tokens"]
    assert sum(generated for _, generated in caller.charged) == usage["completion_tokens"]


async def test_s12_and_reading_10_a_caller_who_left_ends_every_prompt_and_is_counted(
    engine: VllmEngine, ask: Ask
) -> None:
    caller = Caller(request_id="eight")
    reply = await ask({"prompt": ["a"] * 8, "stream": True, **LONG}, caller)
    assert reply.frames is not None
    async with aclosing(reply.frames) as frames:
        for _ in range(50):
            await anext(frames)
        assert num_running(engine) == 8
    await until(lambda: not num_running(engine))
    assert 50 <= caller.tokens("completion") < 8 * 900
    assert caller.tokens("prompt") == 8


@pytest.mark.parametrize("n", [1, 3])
async def test_a_plain_answer_says_what_the_stream_does(ask: Ask, n: int) -> None:
    """Whole answers are put together from steps: text, log-probabilities and ends are those of the stream."""
    body = {"prompt": "12+39?", "n": n, "max_tokens": 16, "logprobs": 2, "seed": 5, "temperature": 1.0}
    plain = await ask(body, Caller(request_id=f"plain-{n}"))
    stream = await ask({**body, "stream": True}, Caller(request_id=f"stream-{n}"))
    assert plain.body is not None and stream.frames is not None
    text, logprobs, ends = [""] * n, [[] for _ in range(n)], [None] * n  # type: ignore[var-annotated]
    async for frame in stream.frames:
        assert isinstance(frame, dict)
        for choice in frame["choices"]:
            index = choice["index"]
            text[index] += choice["text"]
            logprobs[index] += (choice["logprobs"] or {}).get("token_logprobs", [])
            ends[index] = choice["finish_reason"] or ends[index]
    for index, choice in enumerate(plain.body["choices"]):
        assert (choice["text"], choice["finish_reason"]) == (text[index], ends[index])
        assert choice["logprobs"]["token_logprobs"] == pytest.approx(logprobs[index], abs=1e-3)


async def test_an_echoed_stream_with_log_probabilities_gives_every_choice(ask: Ask) -> None:
    """vLLM loses the prompt's where a choice begins behind another's second step."""
    for number in range(8):
        body = {"prompt": "ab", "echo": True, "logprobs": 1, "n": 3, "max_tokens": 3, "ignore_eos": True}
        reply = await ask({**body, "stream": True}, Caller(request_id=f"echo-{number}"))
        assert reply.frames is not None
        values: dict[int, list[float | None]] = {0: [], 1: [], 2: []}
        async for frame in reply.frames:
            for choice in frame.get("choices", ()):
                values[choice["index"]] += choice["logprobs"]["token_logprobs"]
        assert [len(each) for each in values.values()] == [5, 5, 5]
        assert len({tuple(each[:2]) for each in values.values()}) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "broken", ["vllm.serving.completion_logprobs", "vllm.serving.chat_logprobs", "vllm.openai.Public"]
)
async def test_a_fault_of_ours_is_not_the_callers(
    ask: Ask, engine: VllmEngine, monkeypatch: pytest.MonkeyPatch, broken: str, stream: bool
) -> None:
    """vLLM's handlers make a bad request of every ValueError."""

    failed = []

    def fail(*args: Any, **options: Any) -> Any:
        failed.append(broken)
        raise ValueError("zip() argument 2 is shorter")

    monkeypatch.setattr(f"graft.server.engine.{broken}{'.__call__' if broken.endswith('Public') else ''}", fail)
    text = {"prompt": "a", "logprobs": 1}
    chat = {"messages": [{"role": "user", "content": "a"}], "logprobs": True, "top_logprobs": 1}
    body = {**(chat if "chat" in broken else text), "max_tokens": 4, "stream": stream}
    with pytest.raises(Exception) as caught:
        reply = await ask(body, Caller(request_id=f"ours-{stream}"))
        assert reply.frames is not None
        async for _ in reply.frames:
            pass
    fault = fault_of(caught.value)
    assert failed and fault.row.http == 500 and "the server's log has the details" in fault.message
    await until(lambda: not num_running(engine))
