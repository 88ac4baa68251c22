"""Turns and tools as a base's chat template reads them: by its own words where it has them, as text where not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graft.adapters.chat.form import assistant_text, result_text, system_part

Turn = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TemplateReads:
    """What a chat template shows by itself: `tools`, an assistant's `tool_calls`, turns of the role `tool`."""

    tools: bool = False
    calls: bool = False
    results: bool = False


def as_rendered(
    turns: Sequence[Turn],
    tools: Sequence[Mapping[str, Any]] | None,
    reads: TemplateReads,
    *,
    callable_now: bool = True,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Turns to render, and what the template is told beside them: in training and in serving alike. ``tools`` are as
    OpenAI has them. Nothing of a tool, a call or a result is dropped.

    Of a template without tools they stand in the system turn, the first, which is made where there is none; results
    that follow each other are one turn of the user.
    """
    written: list[dict[str, Any]] = []
    for turn in map(_with_reasoning, turns):
        if turn.get("tool_calls") and not reads.calls:
            kept = {key: value for key, value in turn.items() if key != "tool_calls"}
            written.append({**kept, "content": assistant_text(turn["content"], turn["tool_calls"])})
        elif turn["role"] == "tool" and not reads.results:
            _add_result(written, turn)
        else:
            written.append(dict(turn))
    if not tools:
        return _without_marks(written), {}
    if reads.tools:
        return _without_marks(written), {"tools": [dict(tool) for tool in tools]}
    part = system_part(tools, callable_now=callable_now)
    if written and written[0]["role"] == "system":
        content = written[0]["content"]
        written[0] = {**written[0], "content": f"{content}\n\n{part}" if content else part}
    else:
        written.insert(0, {"role": "system", "content": part})
    return _without_marks(written), {}


_RESULTS = "results"
# The names by which templates read what was reasoned; those of most families show it for the last question only.
_REASONING = ("reasoning_content", "reasoning", "thinking")


def _with_reasoning(turn: Turn) -> Turn:
    text = turn.get("reasoning_content")
    return turn if text is None else {**turn, **dict.fromkeys(_REASONING, text)}


def _add_result(written: list[dict[str, Any]], turn: Turn) -> None:
    text = result_text(turn["content"])
    if written and _RESULTS in written[-1]:
        written[-1]["content"] += f"\n{text}"
    else:
        written.append({"role": "user", "content": text, _RESULTS: True})


def _without_marks(written: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in turn.items() if key != _RESULTS} for turn in written]
