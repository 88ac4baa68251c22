"""The same adapters through the `openai` package: nothing to learn anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graft.cli.demo.report import Report
from graft.cli.demo.rows import Example, num_right
from graft.cli.demo.variety import DATES_ISO, DATES_US, SENTIMENT, Trained, Variety
from graft.cli.server_process import RunningServer
from graft.cli.terminal import short

if TYPE_CHECKING:
    import openai

_NUM_ASKED = 16


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A model, what it should have learned, and how much of it must be right (opinions are harder than dates)."""

    model: str
    variety: Variety
    min_right_percent: int


_ASKED = (
    Asked(model="dates", variety=DATES_US, min_right_percent=75),
    Asked(model="dates@1", variety=DATES_ISO, min_right_percent=75),
    Asked(model="sentiment", variety=SENTIMENT, min_right_percent=50),
)


@dataclass(frozen=True, kw_only=True)
class Said:
    """A whole answer and the version that the reply names."""

    text: str
    version: str


def show_openai(server: RunningServer, trained: Mapping[Variety, Trained], report: Report) -> None:
    """Chat completions, streamed, with an adapter, one of its earlier versions, and another adapter as the model."""
    import openai

    with openai.OpenAI(base_url=server.openai_url, api_key="none", max_retries=0) as client:
        report.say(f"models: {', '.join(model.id for model in client.models.list())}")
        for asked in _ASKED:
            _show(client, asked, trained[asked.variety].examples[:_NUM_ASKED], report)


def _show(client: openai.OpenAI, asked: Asked, examples: Sequence[Example], report: Report) -> None:
    answers = [_answer(client, asked.model, example) for example in examples]
    versions = {answer.version for answer in answers}
    for example, answer in zip(examples[:2], answers, strict=False):
        report.show(example.shown, answer.text, asked.model)
    right = num_right(examples, [answer.text for answer in answers])
    measured = f"{right} of {len(examples)} right, by {', '.join(map(short, versions))}"
    holds = len(versions) == 1 and 100 * right >= asked.min_right_percent * len(examples)
    report.claim(f"the openai package streams chats from {asked.model}", measured, holds)


def _answer(client: openai.OpenAI, model: str, example: Example) -> Said:
    from openai.types.chat import ChatCompletionUserMessageParam

    messages = [ChatCompletionUserMessageParam(role="user", content=turn["content"]) for turn in example.turns]
    stream = client.chat.completions.create(
        model=model, messages=messages, temperature=0, max_completion_tokens=24, stream=True
    )
    text, version = "", ""
    for chunk in stream:
        version = chunk.system_fingerprint or version
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
    return Said(text=text, version=version)
