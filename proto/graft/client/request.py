"""From plain Python values to request messages; pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, cast

from graft.v1 import inference_pb2 as pb

# Text, chat turns such as {"role": "user", "content": "…"} (or a list of text parts as OpenAI has them), or token ids.
Turn = Mapping[str, str | Sequence[Mapping[str, str]]]
PromptLike = str | Sequence[Turn] | Sequence[int] | pb.Prompt
# Texts, or lists of token ids.
Continuations = Sequence[str] | Sequence[Sequence[int]]
# Texts, pairs of texts, or lists of token ids.
Inputs = Sequence[str | tuple[str, str] | Sequence[int]]
# What the server puts between two parts of one turn that comes over HTTP.
_BETWEEN_PARTS = "\n"

# Keeps a slip from costing memory here; the server's own limit is lower.
MAX_CHOICES = 1024


class SamplingOptions(TypedDict, total=False):
    """How tokens are drawn; what is not given takes the server's default (greedy, 128 tokens)."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int
    stop: str | Sequence[str]
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float
    json_schema: str | Mapping[str, object]
    ignore_eos: bool


def prompt(content: PromptLike) -> pb.Prompt:
    """A prompt message. Raises ValueError for an empty sequence, a turn without role or content, a mixed sequence."""
    if isinstance(content, pb.Prompt):
        return content
    if isinstance(content, str):
        return pb.Prompt(text=content)
    items: Sequence[object] = list(content)
    if not items:
        raise ValueError("the prompt is empty: give text, chat turns or token ids")
    if all(isinstance(item, int) for item in items):
        return pb.Prompt(token_ids=_token_ids(items))
    return pb.Prompt(chat=pb.Chat(messages=[_message(item) for item in items]))


def _message(turn: object) -> pb.Message:
    if not isinstance(turn, Mapping) or set(turn) != {"role", "content"}:
        raise ValueError(f"a chat turn has exactly the keys role and content, this one is {turn!r}")
    return pb.Message(role=turn["role"], content=_text(turn["content"]))


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    parts: Sequence[object] = content if isinstance(content, Sequence) else ()
    texts = [part.get("text") for part in parts if isinstance(part, Mapping) and part.get("type") == "text"]
    if not parts or len(texts) < len(parts) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f'a turn\'s content is text or a list of {{"type": "text", "text": "…"}}, this is {content!r}')
    return _BETWEEN_PARTS.join(str(text) for text in texts)


def score(content: PromptLike, continuations: Continuations, model: str) -> pb.ScoreRequest:
    """A request to score. Raises TypeError for continuations that are neither texts nor lists of token ids."""
    message = pb.ScoreRequest(model=model, prompt=prompt(content))
    if isinstance(continuations, str):
        raise TypeError("continuations are a list of texts, or of lists of token ids: put the text into a list")
    for one in continuations:
        if isinstance(one, str):
            message.continuations.append(one)
        elif isinstance(one, Sequence):
            message.continuation_ids.append(_token_ids(one))
        else:
            raise TypeError(f"a continuation is text or a list of token ids, this one is {one!r}")
    return message


def classify(inputs: Inputs, model: str, truncate_prompt_tokens: int | None) -> pb.ClassifyRequest:
    """A request to classify. Raises TypeError for what is neither a text, nor a pair of texts, nor token ids."""
    if isinstance(inputs, str):
        raise TypeError("inputs are a list of texts, of pairs of them, or of token ids: put the text into a list")
    message = pb.ClassifyRequest(model=model, truncate_prompt_tokens=truncate_prompt_tokens)
    for one in inputs:
        parts: Sequence[object] = one
        if isinstance(one, str):
            message.inputs.append(pb.ClassifyInput(text=one))
        elif len(parts) == 2 and all(isinstance(part, str) for part in parts):
            message.inputs.append(pb.ClassifyInput(text=str(parts[0]), text_pair=str(parts[1])))
        elif any(isinstance(part, str) for part in parts):
            raise TypeError(f"an input is a text, a pair of texts, or token ids, this one is {one!r}")
        else:
            message.inputs.append(pb.ClassifyInput(token_ids=_token_ids(parts)))
    return message


def _token_ids(ids: Sequence[object]) -> pb.TokenIds:
    for one in ids:
        if type(one) is not int or not 0 <= one < 2**32:
            raise ValueError(f"a token id is an integer from 0 on, this one is {one!r}")
    return pb.TokenIds(ids=cast(Sequence[int], ids))


def sampling(options: SamplingOptions) -> pb.Sampling:
    """A sampling message with the given fields set. Raises TypeError for an unknown or ill-typed option."""
    fields: dict[str, Any] = dict(options)
    unknown = fields.keys() - SamplingOptions.__annotations__.keys()
    if unknown:
        known = ", ".join(sorted(SamplingOptions.__annotations__))
        raise TypeError(f"unknown sampling option {', '.join(sorted(unknown))}; there are {known}")
    if isinstance(fields.get("stop"), str):
        fields["stop"] = [fields["stop"]]
    if isinstance(fields.get("json_schema"), Mapping):
        fields["json_schema"] = json.dumps(fields["json_schema"])
    return pb.Sampling(**fields)


def generate(
    content: PromptLike, *, model: str, num_choices: int, logprobs: int | None, options: SamplingOptions
) -> pb.GenerateRequest:
    """A request to generate; see `GenerateRequest` in the contract. Raises ValueError for too few or many choices."""
    if not 1 <= num_choices <= MAX_CHOICES:
        raise ValueError(f"num_choices is {num_choices}: ask for 1 to {MAX_CHOICES}")
    return pb.GenerateRequest(
        model=model,
        prompt=prompt(content),
        sampling=sampling(options),
        num_choices=num_choices,
        logprobs=logprobs,
    )
