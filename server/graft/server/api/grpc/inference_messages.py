"""Inference messages to the engine's values and back; every unusable field is named at once."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.message import Message

from graft.adapters.form import ServingForm
from graft.server.api.classes import Classified
from graft.server.api.limits import MAX_CONTINUATIONS, MAX_MESSAGES, MAX_SEQUENCES
from graft.server.api.ranges import RANGES, Range, stops_problem
from graft.server.engine import engine
from graft.server.engine.schema.bounds import check_schema_text
from graft.server.engine.text import Text
from graft.server.parity.receipt import Receipt
from graft.server.runtime.roles import role_problem
from graft.server.runtime.violations import Violations
from graft.server.serving import Answerer, Ticket
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


def prompt_field(prompt: inference_pb2.Prompt) -> str:
    """The path of the field that holds a prompt's content."""
    return {"text": "prompt.text", "chat": "prompt.chat.messages"}.get(
        prompt.WhichOneof("content") or "", "prompt.token_ids.ids"
    )


def check_prompt(prompt: inference_pb2.Prompt, text: Text, violations: Violations) -> None:
    """A prompt has content, known roles and ids of the vocabulary."""
    kind = prompt.WhichOneof("content")
    if kind is None:
        violations.add("prompt", "is missing: give text, chat or token_ids")
    elif kind == "text" and not prompt.text:
        violations.add("prompt.text", "is empty")
    elif kind == "token_ids":
        _check_ids(prompt.token_ids, prompt_field(prompt), text, violations)
    elif kind == "chat":
        if not prompt.chat.messages:
            violations.add("prompt.chat.messages", "is empty: give at least one turn")
        if len(prompt.chat.messages) > MAX_MESSAGES:
            problem = f"has {len(prompt.chat.messages)} turns; the limit is {MAX_MESSAGES}"
            violations.add("prompt.chat.messages", problem)
        for index, message in enumerate(prompt.chat.messages[:MAX_MESSAGES]):
            if wrong := role_problem(message.role):
                violations.add(f"prompt.chat.messages[{index}].role", wrong)


def check_continuations(request: inference_pb2.ScoreRequest, text: Text, violations: Violations) -> None:
    """Continuations are texts or lists of ids, one kind of them; none is empty."""
    if request.continuations and request.continuation_ids:
        violations.add("continuation_ids", "stand beside continuations: give texts or ids, not both")
        return
    name = "continuation_ids" if request.continuation_ids else "continuations"
    num_entries = len(request.continuations) + len(request.continuation_ids)
    if not 1 <= num_entries <= MAX_CONTINUATIONS:
        violations.add(name, f"has {num_entries} entries; allowed are 1 to {MAX_CONTINUATIONS}")
        return
    for index, one in enumerate(request.continuations):
        if not one:
            violations.add(f"{name}[{index}]", "is empty")
    for index, ids in enumerate(request.continuation_ids):
        _check_ids(ids, f"{name}[{index}].ids", text, violations)


def input_field(given: inference_pb2.ClassifyInput, index: int) -> str:
    """The path of the field that holds an input's content."""
    return f"inputs[{index}].token_ids.ids" if given.WhichOneof("content") == "token_ids" else f"inputs[{index}].text"


def check_inputs(request: inference_pb2.ClassifyRequest, text: Text, violations: Violations) -> None:
    """Inputs are texts, pairs of them or lists of ids; none is empty."""
    if not 1 <= len(request.inputs) <= MAX_SEQUENCES:
        violations.add("inputs", f"has {len(request.inputs)} entries; allowed are 1 to {MAX_SEQUENCES}")
        return
    if request.HasField("truncate_prompt_tokens") and not request.truncate_prompt_tokens:
        violations.add("truncate_prompt_tokens", "is 0; it must be at least 1")
    for index, one in enumerate(request.inputs):
        field, kind = input_field(one, index), one.WhichOneof("content")
        if kind == "token_ids":
            _check_ids(one.token_ids, field, text, violations)
            if one.HasField("text_pair"):
                violations.add(f"inputs[{index}].text_pair", "stands beside token ids: give both texts, or all ids")
        elif not one.text:
            violations.add(field, "is empty")
        elif one.HasField("text_pair") and not one.text_pair:
            violations.add(f"inputs[{index}].text_pair", "is empty")


def _check_ids(given: inference_pb2.TokenIds, field: str, text: Text, violations: Violations) -> None:
    if not given.ids:
        violations.add(field, "is empty")
    text.check_ids(given.ids, field=field, violations=violations)


def sampling_of(request: inference_pb2.GenerateRequest, violations: Violations) -> engine.Sampling:
    """The sampling asked for, with defaults; usable only where `violations` stays empty."""
    given = request.sampling
    _check_numbers(given, violations)
    if request.num_choices:
        _check_range("num_choices", RANGES["n"], request.num_choices, violations)
    if request.HasField("logprobs"):
        _check_range("logprobs", RANGES["logprobs"], request.logprobs, violations)
    for place, problem in stops_problem(list(given.stop)):
        violations.add(f"sampling.stop{place}", problem)
    if given.HasField("json_schema"):
        check_schema_text(given.json_schema, "sampling.json_schema", violations)
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
    for name in _OPTIONAL:
        if name in RANGES and _has(given, name):
            _check_range(f"sampling.{name}", RANGES[name], getattr(given, name), violations)


def _check_range(field: str, allowed: Range, value: float, violations: Violations) -> None:
    if problem := allowed.problem(value):
        violations.add(field, problem)


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
            bytes=one.bytes,
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


def usage_message(ticket: Ticket) -> inference_pb2.Usage:
    meter = ticket.meter
    return inference_pb2.Usage(
        prompt_tokens=meter.num_prompt_tokens,
        completion_tokens=meter.num_completion_tokens,
        cached_tokens=meter.num_cached_tokens,
        virtual_tokens=ticket.num_virtual_tokens * meter.num_prompts,
    )


def classification_message(one: Classified) -> inference_pb2.Classification:
    return inference_pb2.Classification(label=one.label or "", probs=one.probs, outputs=one.outputs)


def score_message(score: engine.ContinuationScore) -> inference_pb2.ContinuationScore:
    return inference_pb2.ContinuationScore(
        logprob=score.logprob, tokens=logprob_messages(score.tokens), is_greedy=score.is_greedy
    )
