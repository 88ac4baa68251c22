"""Inference messages to the engine's values and back; every unusable field is named at once."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence

from google.protobuf.message import Message

from graft.adapters.form import ServingForm
from graft.server.api.limits import (
    MAX_CHOICES,
    MAX_LOGPROBS,
    MAX_STOP_CHARACTERS,
    MAX_STOPS,
    Violations,
    check_json_schema,
)
from graft.server.engine import engine
from graft.server.parity.receipt import Receipt
from graft.server.serving import Answerer
from graft.v1 import common_pb2, inference_pb2

_FORMS = {
    ServingForm.NF4: common_pb2.SERVING_FORM_NF4,
    ServingForm.INT8: common_pb2.SERVING_FORM_INT8,
    ServingForm.BF16: common_pb2.SERVING_FORM_BF16,
    ServingForm.FP32: common_pb2.SERVING_FORM_FP32,
    ServingForm.LLM_INT8: common_pb2.SERVING_FORM_LLM_INT8,
    ServingForm.INT4: common_pb2.SERVING_FORM_INT4,
}
_FINISH = {"stop": common_pb2.FINISH_REASON_STOP, "length": common_pb2.FINISH_REASON_LENGTH}
_ROLES = ("system", "user", "assistant")
# Field, smallest and largest value; whether the smallest itself is allowed.
_RANGES = (
    ("temperature", 0.0, 100.0, True),
    ("top_p", 0.0, 1.0, False),
    ("min_p", 0.0, 1.0, True),
    ("presence_penalty", -2.0, 2.0, True),
    ("frequency_penalty", -2.0, 2.0, True),
    ("repetition_penalty", 0.0, 100.0, False),
)


_OPTIONAL = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "json_schema",
)


def form_message(form: ServingForm) -> common_pb2.ServingForm.ValueType:
    return _FORMS[form]


def check_prompt(prompt: inference_pb2.Prompt, violations: Violations) -> None:
    """A prompt has content, known roles and no empty list of ids."""
    kind = prompt.WhichOneof("content")
    if kind is None:
        violations.add("prompt", "is empty: give text, chat or token_ids")
    elif kind == "text" and not prompt.text:
        violations.add("prompt.text", "is empty")
    elif kind == "token_ids" and not prompt.token_ids.ids:
        violations.add("prompt.token_ids.ids", "is empty")
    elif kind == "chat":
        if not prompt.chat.messages:
            violations.add("prompt.chat.messages", "is empty")
        for index, message in enumerate(prompt.chat.messages):
            if message.role not in _ROLES:
                problem = f"{message.role[:40]!r} is none of {', '.join(_ROLES)}"
                violations.add(f"prompt.chat.messages[{index}].role", problem)


def sampling_of(request: inference_pb2.GenerateRequest, violations: Violations) -> engine.Sampling:
    """The sampling asked for, with defaults; usable only where `violations` stays empty."""
    given = request.sampling
    _check_numbers(given, violations)
    if request.num_choices > MAX_CHOICES:
        violations.add("num_choices", f"is {request.num_choices}; the limit is {MAX_CHOICES}")
    if request.HasField("logprobs") and request.logprobs > MAX_LOGPROBS:
        violations.add("logprobs", f"is {request.logprobs}; the limit is {MAX_LOGPROBS}")
    _check_stops(given.stop, violations)
    if given.HasField("json_schema"):
        _check_schema(given.json_schema, violations)
    return engine.Sampling(
        **{name: getattr(given, name) for name in _OPTIONAL if _has(given, name)},
        stop=tuple(given.stop),
        ignore_eos=given.ignore_eos,
        num_choices=request.num_choices or 1,
        logprobs=request.logprobs if request.HasField("logprobs") else None,
    )


def _has(message: Message, field: str) -> bool:
    return message.HasField(field)


def _check_numbers(given: inference_pb2.Sampling, violations: Violations) -> None:
    if given.HasField("max_tokens") and given.max_tokens < 1:
        violations.add("sampling.max_tokens", "is 0; at least 1 token is generated")
    if given.top_k > 2**31 - 1:
        violations.add("sampling.top_k", f"is {given.top_k}; the limit is {2**31 - 1}")
    for name, low, high, closed in _RANGES:
        if not _has(given, name):
            continue
        value = getattr(given, name)
        if not math.isfinite(value) or value > high or value < low or (value == low and not closed):
            interval = f"{'[' if closed else '('}{low:g}, {high:g}]"
            violations.add(f"sampling.{name}", f"is {value:g}; it must lie in {interval}")


def _check_stops(stops: Sequence[str], violations: Violations) -> None:
    if len(stops) > MAX_STOPS:
        violations.add("sampling.stop", f"has {len(stops)} strings; the limit is {MAX_STOPS}")
        return
    for index, stop in enumerate(stops):
        if not 1 <= len(stop) <= MAX_STOP_CHARACTERS:
            problem = f"has {len(stop)} characters; allowed are 1 to {MAX_STOP_CHARACTERS}"
            violations.add(f"sampling.stop[{index}]", problem)


def _check_schema(text: str, violations: Violations) -> None:
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        violations.add("sampling.json_schema", f"is not JSON: {str(error)[:100]}")
        return
    check_json_schema(schema, "sampling.json_schema", violations)


def answerer_message(answerer: Answerer) -> common_pb2.Answerer:
    return common_pb2.Answerer(
        adapter=answerer.adapter or "",
        version_digest=answerer.version_digest or "",
        version_number=answerer.version_number or 0,
        base=answerer.base,
        base_digest=answerer.base_digest,
        form=form_message(answerer.form),
        other_form=answerer.other_form,
        parity=parity_message(answerer.parity) if answerer.parity else None,
    )


def parity_message(receipt: Receipt) -> common_pb2.Parity:
    if receipt.deltas is None:
        return common_pb2.Parity(source=receipt.source)
    return common_pb2.Parity(
        source=receipt.source,
        mean_abs_delta=receipt.deltas.mean_abs_delta,
        num_tokens=receipt.deltas.num_tokens,
    )


def logprob_messages(logprobs: Iterable[engine.TokenLogprob]) -> list[inference_pb2.TokenLogprob]:
    return [
        inference_pb2.TokenLogprob(
            token_id=one.token_id,
            token=one.token,
            logprob=one.logprob,
            alternatives=logprob_messages(one.alternatives),
        )
        for one in logprobs
    ]


def delta_message(delta: engine.Delta) -> inference_pb2.GenerateResponse:
    finish = _FINISH[delta.finish_reason] if delta.finish_reason else common_pb2.FINISH_REASON_UNSPECIFIED
    return inference_pb2.GenerateResponse(
        choice=delta.choice,
        text=delta.text,
        token_ids=delta.token_ids,
        logprobs=logprob_messages(delta.logprobs),
        finish_reason=finish,
    )


def score_message(score: engine.ContinuationScore) -> inference_pb2.ContinuationScore:
    return inference_pb2.ContinuationScore(
        logprob=score.logprob, tokens=logprob_messages(score.tokens), is_greedy=score.is_greedy
    )
