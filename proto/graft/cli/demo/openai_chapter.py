"""The same adapters through the `openai` package: nothing to learn anew."""

from __future__ import annotations

from collections.abc import Mapping

from graft.cli.demo.batch_chapter import MIN_RIGHT_PERCENT
from graft.cli.demo.report import Report
from graft.cli.demo.rows import Example, num_right
from graft.cli.demo.variety import SENTIMENT, Trained, Variety
from graft.cli.server_process import RunningServer

_NUM_ASKED = 12


def show_openai(server: RunningServer, trained: Mapping[Variety, Trained], report: Report) -> None:
    """Chat completions, streamed, with an adapter as the model."""
    import openai

    examples = trained[SENTIMENT].examples[:_NUM_ASKED]
    with openai.OpenAI(base_url=server.openai_url, api_key="none", max_retries=0) as client:
        models = [model.id for model in client.models.list()]
        report.say(f"models: {', '.join(models)}")
        answers = [_answer(client, example) for example in examples]
    report.show(examples[0].shown, answers[0], SENTIMENT.name)
    right = num_right(examples, answers)
    holds = SENTIMENT.name in models and 100 * right >= MIN_RIGHT_PERCENT * len(examples)
    report.claim("the openai package streams chats from an adapter", f"{right} of {len(examples)} right", holds)


def _answer(client: object, example: Example) -> str:
    import openai
    from openai.types.chat import ChatCompletionUserMessageParam

    assert isinstance(client, openai.OpenAI)
    messages = [ChatCompletionUserMessageParam(role="user", content=turn["content"]) for turn in example.turns]
    stream = client.chat.completions.create(
        model=SENTIMENT.name, messages=messages, temperature=0, max_completion_tokens=24, stream=True
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
