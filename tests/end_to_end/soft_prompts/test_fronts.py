"""Soft prompts behind both fronts: pushed, asked in every way, moved under running streams like LoRAs."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from graft.adapters.base.base import Base
from graft.client import Client, InvalidArgument
from tests.running import Server
from tests.server.engine.making import write_adapter, write_soft_prompt

SIZES = (12, 30)
PROMPT = "Once upon a time there was a small fox"
CHAT = [{"role": "user", "content": "What is 12+35?"}]


@pytest.fixture(scope="module")
def bard(client: Client, base: Base, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An adapter whose versions 1 and 2 are soft prompts; `stable` is version 1."""
    root = tmp_path_factory.mktemp("soft")
    for number, size in enumerate(SIZES, 1):
        folder = write_soft_prompt(root / str(number), base, num_tokens=size, seed=number)
        pushed = client.push_adapter(folder, name="bard", alias="stable" if number == 1 else None)
        assert (pushed.version.number, pushed.version.num_virtual_tokens, pushed.version.rank) == (number, size, 0)
    return "bard"


@pytest.fixture(scope="module")
def api(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.http}/v1", api_key="unused", max_retries=0) as client:
        yield client


def test_both_fronts_say_the_same_and_count_virtual_tokens(client: Client, api: openai.OpenAI, bard: str) -> None:
    num_text = len(client.tokenize(PROMPT).token_ids)
    for number, size in enumerate(SIZES, 1):
        said = client.generate(PROMPT, model=f"{bard}@{number}", max_tokens=12, logprobs=0)
        assert said.answerer.version_number == number
        assert (said.usage.prompt_tokens, said.usage.virtual_tokens) == (num_text + size, size)
        answer = api.completions.create(model=f"{bard}@{number}", prompt=PROMPT, max_tokens=12, temperature=0)
        assert answer.choices[0].text == said.text
        assert answer.usage.prompt_tokens == num_text + size
        assert answer.usage.total_tokens == num_text + size + answer.usage.completion_tokens
        assert answer.usage.prompt_tokens_details.virtual_tokens == size
    base = client.generate(PROMPT, max_tokens=12)
    assert (base.usage.prompt_tokens, base.usage.virtual_tokens) == (num_text, 0)


def test_scores_are_the_log_probabilities_of_what_is_said(client: Client, bard: str) -> None:
    said = client.generate(PROMPT, model=bard, max_tokens=6, logprobs=0, ignore_eos=True)
    tokens = [one.logprob for one in said.choices[0].logprobs]
    scored = client.score(PROMPT, [list(said.choices[0].token_ids)], model=bard)
    assert [one.logprob for one in scored.scores[0].tokens] == pytest.approx(tokens, abs=0.15)
    assert scored.usage.virtual_tokens == SIZES[0]
    assert scored.usage.prompt_tokens == said.usage.prompt_tokens


def test_chats_stream_and_as_a_whole(api: openai.OpenAI, bard: str) -> None:
    arguments = {"model": bard, "messages": CHAT, "max_completion_tokens": 16, "temperature": 0}
    whole = api.chat.completions.create(**arguments)
    chunks = list(api.chat.completions.create(**arguments, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    assert chunks[-1].usage.prompt_tokens_details.virtual_tokens == SIZES[0]
    plain = api.chat.completions.create(**{**arguments, "model": "base"})
    assert plain.usage.prompt_tokens == whole.usage.prompt_tokens - SIZES[0]
    assert plain.usage.prompt_tokens_details.model_dump().get("virtual_tokens") is None


def test_responses(api: openai.OpenAI, bard: str) -> None:
    chat = api.chat.completions.create(model=bard, messages=CHAT, max_completion_tokens=16, temperature=0)
    answer = api.responses.create(model=bard, input=CHAT[0]["content"], max_output_tokens=16, temperature=0)
    assert answer.output_text == chat.choices[0].message.content
    assert answer.usage.input_tokens == chat.usage.prompt_tokens
    assert answer.usage.input_tokens_details.virtual_tokens == SIZES[0]


def test_choices_stops_and_seeds(api: openai.OpenAI, bard: str) -> None:
    drawn = {"model": bard, "prompt": PROMPT, "max_tokens": 8, "temperature": 1.0, "seed": 7, "n": 3}
    first, second = (api.completions.create(**drawn) for _ in range(2))
    assert [one.text for one in first.choices] == [one.text for one in second.choices]
    assert len({one.text for one in first.choices}) > 1
    assert first.usage.prompt_tokens_details.virtual_tokens == SIZES[0], "a prompt counts once"
    whole = api.completions.create(model=bard, prompt=PROMPT, max_tokens=30, temperature=0).choices[0].text
    stop = whole[5:8]
    cut = api.completions.create(model=bard, prompt=PROMPT, max_tokens=30, temperature=0, stop=[stop]).choices[0]
    assert (cut.text, cut.finish_reason) == (whole[: whole.index(stop)], "stop")


def test_several_prompts_in_one_request(api: openai.OpenAI, bard: str) -> None:
    both = api.completions.create(model=bard, prompt=[PROMPT, "a"], max_tokens=4, temperature=0)
    assert both.usage.prompt_tokens_details.virtual_tokens == 2 * SIZES[0]
    assert len(both.choices) == 2


def test_an_echoed_prompt_has_its_own_tokens_only(client: Client, api: openai.OpenAI, bard: str) -> None:
    """Its first token has a probability, too: it stands behind virtual ones."""
    for asked in ({"max_tokens": 0}, {"max_tokens": 2}, {"max_tokens": 0, "stream": True}):
        reply = api.completions.create(model=bard, prompt=PROMPT, echo=True, logprobs=1, temperature=0, **asked)
        (choice,) = [chunk.choices[0] for chunk in reply][:1] if asked.get("stream") else reply.choices
        assert choice.text.startswith(PROMPT)
        num_text = len(client.tokenize(PROMPT).token_ids)
        values = choice.logprobs.token_logprobs[:num_text]
        assert "".join(choice.logprobs.tokens[:num_text]) == PROMPT
        ids = list(client.tokenize(PROMPT).token_ids)
        scored = client.score(ids[:1], [ids[1:]], model=bard).scores[0]
        assert values[1:] == pytest.approx([one.logprob for one in scored.tokens], abs=0.15)
        assert values[0] is not None and values[0] < 0


def test_structured_output(api: openai.OpenAI, bard: str) -> None:
    schema = {
        "type": "object",
        "properties": {"answer": {"enum": ["yes", "no"]}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema, "strict": True}}
    answer = api.chat.completions.create(
        model=bard, messages=CHAT, max_completion_tokens=60, temperature=0, response_format=form
    )
    assert json.loads(answer.choices[0].message.content)["answer"] in ("yes", "no")


def test_the_context_is_shorter_by_the_virtual_tokens(client: Client, api: openai.OpenAI, bard: str) -> None:
    context = client.info().limits.max_model_tokens
    room = context - SIZES[1]
    full = client.generate([5] * (room - 3), model=f"{bard}@2", max_tokens=50, ignore_eos=True)
    assert full.usage.completion_tokens == 3
    with pytest.raises(InvalidArgument, match=f"holds {room} beside the adapter's {SIZES[1]} virtual ones"):
        client.generate([5] * room, model=f"{bard}@2")
    with pytest.raises(openai.BadRequestError, match=f"holds {room} beside"):
        api.completions.create(model=f"{bard}@2", prompt=[5] * room, max_tokens=1)


def test_programs_ask_it(client: Client, api: openai.OpenAI, bard: str) -> None:
    program = {"prompt": "{{word}} -> ", "output": {"type": "choices", "choices": ["yes", "no"]}}
    run = client.run_prompt(program=program, variables={"word": "cat"}, model=bard)
    assert run.answer in ("yes", "no")
    assert run.usage.virtual_tokens >= SIZES[0]


def test_streams_stay_on_their_version_while_the_alias_moves_between_soft_prompts_and_a_lora(
    client: Client, bard: str, layers: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    lora = client.push_adapter(write_adapter(tmp_path / "lora", layers, rank=8, seed=5), name=bard).version.number
    versions = (1, 2, lora)
    expected = {one: client.generate(PROMPT, model=f"{bard}@{one}", max_tokens=3).choices[0].token_ids
                for one in versions}  # fmt: skip
    assert len({tuple(one) for one in expected.values()}) == 3
    wrong: list[str] = []
    answered: Counter[int] = Counter()
    ended = threading.Event()

    def stream() -> None:
        while not ended.is_set():
            answer = client.generate(PROMPT, model=bard, max_tokens=24, ignore_eos=True)
            number = answer.answerer.version_number
            answered[number] += 1
            if answer.choices[0].token_ids[:3] != expected[number]:
                wrong.append(f"version {number} answered {answer.text!r}")

    threads = [threading.Thread(target=stream) for _ in range(6)]
    for thread in threads:
        thread.start()
    for swap in range(12):
        client.set_alias(bard, "stable", versions[(swap + 1) % 3])
        client.generate(PROMPT, model=f"{bard}:stable", max_tokens=12, ignore_eos=True)
    ended.set()
    for thread in threads:
        thread.join()
    client.set_alias(bard, "stable", 1)
    assert wrong == []
    assert set(answered) == set(versions)


def test_a_soft_prompt_takes_no_slot(
    client: Client, bard: str, base: Base, layers: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    """Six soft prompts stay in a server of four slots while LoRAs come and go in these."""
    for number in range(6):
        folder = write_soft_prompt(tmp_path / f"soft{number}", base, num_tokens=3, seed=50 + number)
        client.push_adapter(folder, name=f"soft{number}", alias="stable")
    for number in range(3):
        folder = write_adapter(tmp_path / f"lora{number}", layers, rank=8, seed=60 + number)
        client.push_adapter(folder, name=f"lora{number}", alias="stable")
    held = {one.digest for one in client.residency().versions}
    assert {client.versions(f"soft{number}")[0].digest for number in range(6)} <= held
    assert client.versions("lora2")[0].digest in held


def test_no_caller_sends_embeddings(api: openai.OpenAI, bard: str) -> None:
    """The engine takes them now, of whatever width and size, and is not asked with a caller's."""
    with pytest.raises(openai.BadRequestError, match="prompt_embeds"):
        api.completions.create(model=bard, prompt="a", max_tokens=1, extra_body={"prompt_embeds": "AAAA"})
    part = {"type": "prompt_embeds", "data": "AAAA"}
    with pytest.raises(openai.BadRequestError, match="only `text` parts"):
        api.chat.completions.create(model=bard, messages=[{"role": "user", "content": [part]}])


def test_a_deleted_version_leaves(client: Client, base: Base, tmp_path: Path) -> None:
    pushed = client.push_adapter(write_soft_prompt(tmp_path / "a", base, num_tokens=2, seed=99), name="gone")
    client.generate("a", model="gone@1", max_tokens=1)
    client.delete_adapter("gone", force=True)
    assert pushed.version.digest not in {one.digest for one in client.residency().versions}


def test_what_is_no_embedding_is_refused_with_the_reason(client: Client, base: Base, tmp_path: Path) -> None:
    folder = write_soft_prompt(tmp_path / "a", base, num_tokens=4, seed=1)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "peft_type": "PREFIX_TUNING"}))
    with pytest.raises(InvalidArgument, match="keys and values for every layer"):
        client.push_adapter(folder, name="prefix")
