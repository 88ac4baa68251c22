"""What the honoured fields of an OpenAI request may hold, and which of them go together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from graft.server.api.http.openai_fields import CHAT, Endpoint
from graft.server.api.limits import (
    MAX_BAD_WORDS_BYTES,
    MAX_LIST_ENTRIES,
    MAX_LOGIT_BIASES,
    MAX_SEQUENCES,
    MAX_STOP_TOKEN_IDS,
    check_structures,
)
from graft.server.api.ranges import RANGES, Range, stops_problem
from graft.server.engine.schema.structured_outputs import COMPLETION_TOKENS
from graft.server.runtime.violations import Violations, shown

Check = Callable[[str, Any, Violations], None]
_BIAS = Range(low=-100.0, high=100.0, integer=False)
_STREAM_OPTIONS = ("include_usage", "continuous_usage_stats")


def check_values(body: Mapping[str, Any], endpoint: Endpoint, vocab_size: int, violations: Violations) -> None:
    """Every honoured field but the model and the prompt; `body` holds no nulls."""
    checks = _checks(endpoint, vocab_size)
    for name, value in body.items():
        if name in checks:
            checks[name](name, value, violations)
    check_structures(body, violations)
    _check_together(body, endpoint, violations)


def check_sequences(num_prompts: int, n: Any, violations: Violations) -> None:
    """Prompts times choices are scheduled together."""
    num_choices = 1 if RANGES["n"].problem(n) else int(n)
    num_sequences = num_prompts * num_choices
    if num_sequences > MAX_SEQUENCES:
        problem = f"{num_prompts} prompts times n are {num_sequences} sequences; the limit is {MAX_SEQUENCES}"
        violations.add("prompt", problem)


def _checks(endpoint: Endpoint, vocab_size: int) -> dict[str, Check]:
    token = Range(low=0, high=vocab_size - 1)
    checks: dict[str, Check] = {name: _in_range(one) for name, one in RANGES.items()}
    checks |= {
        "stop": _stop,
        "stream": _boolean,
        "stream_options": _stream_options,
        "echo": _boolean,
        "ignore_eos": _boolean,
        "include_stop_str_in_output": _boolean,
        "skip_special_tokens": _boolean,
        "allowed_token_ids": _tokens(token, at_least=1),
        "stop_token_ids": _tokens(token, at_least=0, at_most=MAX_STOP_TOKEN_IDS),
        "bad_words": _words,
        "logit_bias": _biases(token),
        "reasoning_effort": _text,
        "chat_template_kwargs": _object,
        "structured_outputs": _object,
        "response_format": _object,
    }
    if endpoint is CHAT:
        checks["logprobs"] = _boolean
    else:
        # With `echo`, none: the prompt is scored and nothing is generated.
        checks["max_tokens"] = _in_range(Range(low=0, high=RANGES["max_tokens"].high))
    return checks


def _check_together(body: Mapping[str, Any], endpoint: Endpoint, violations: Violations) -> None:
    names = ("max_tokens", "max_completion_tokens")
    limits = [body[name] for name in names if isinstance(body.get(name), int | float)]
    if len(set(limits)) > 1:
        violations.add("max_tokens", "is not max_completion_tokens: give one of them")
    if endpoint is not CHAT and body.get("max_tokens") == 0 and body.get("echo") is not True:
        violations.add("max_tokens", "is 0; at least 1 token is generated, unless `echo` asks for the prompt alone")
    least = body.get("min_tokens")
    if endpoint is not CHAT and not limits and isinstance(least, int) and least > COMPLETION_TOKENS:
        problem = f"is {shown(least)}; without max_tokens {COMPLETION_TOKENS} are generated at most: give it too"
        violations.add("min_tokens", problem)
    if limits and isinstance(least, int) and least > max(limits):
        violations.add("min_tokens", f"is {shown(least)}, more than max_tokens {shown(max(limits))}")
    if endpoint is CHAT and body.get("top_logprobs") and body.get("logprobs") is not True:
        violations.add("top_logprobs", "needs `logprobs: true`")
    if body.get("stream_options") and body.get("stream") is not True:
        violations.add("stream_options", "needs `stream: true`")


def _in_range(allowed: Range) -> Check:
    def check(field: str, value: Any, violations: Violations) -> None:
        if problem := allowed.problem(value):
            violations.add(field, problem)

    return check


def _boolean(field: str, value: Any, violations: Violations) -> None:
    if not isinstance(value, bool):
        violations.add(field, f"is {shown(value)}; it must be true or false")


def _text(field: str, value: Any, violations: Violations) -> None:
    if not isinstance(value, str):
        violations.add(field, f"is {shown(value)}; it must be text")


def _object(field: str, value: Any, violations: Violations) -> None:
    if not isinstance(value, Mapping):
        violations.add(field, f"is {shown(value)}; it must be an object")


def _stop(field: str, value: Any, violations: Violations) -> None:
    for place, problem in stops_problem([value] if isinstance(value, str) else value):
        # A single string has no place of its own.
        violations.add(field if isinstance(value, str) else f"{field}{place}", problem)


def _stream_options(field: str, value: Any, violations: Violations) -> None:
    if not isinstance(value, Mapping):
        _object(field, value, violations)
        return
    for key, wanted in violations.until_full(value.items()):
        if key == "include_obfuscation" and wanted is True:
            violations.add(f"{field}.{key}", "true is not supported; leave it out, or say false")
        elif key not in (*_STREAM_OPTIONS, "include_obfuscation"):
            violations.add(f"{field}.{key[:40]}", f"is unknown; there is {', '.join(_STREAM_OPTIONS)}")
        elif wanted is not None:
            _boolean(f"{field}.{key}", wanted, violations)


def _words(field: str, value: Any, violations: Violations) -> None:
    if _too_many(field, value, MAX_LIST_ENTRIES, violations):
        return
    for index, word in enumerate(value):
        if not isinstance(word, str) or not word.strip():
            violations.add(f"{field}[{index}]", f"is {shown(word)}; it must be text that is not blank")
    num_bytes = sum(len(word.encode(errors="replace")) for word in value if isinstance(word, str))
    if num_bytes > MAX_BAD_WORDS_BYTES:
        violations.add(field, f"has {num_bytes} bytes; the limit is {MAX_BAD_WORDS_BYTES}")


def _tokens(token: Range, *, at_least: int, at_most: int = MAX_LIST_ENTRIES) -> Check:
    def check(field: str, value: Any, violations: Violations) -> None:
        if _too_many(field, value, at_most, violations):
            return
        if len(value) < at_least:
            violations.add(field, "is empty; name at least one token id")
        for index, one in enumerate(value):
            if problem := token.problem(one):
                violations.add(f"{field}[{index}]", problem)

    return check


def _biases(token: Range) -> Check:
    def check(field: str, value: Any, violations: Violations) -> None:
        if not isinstance(value, Mapping):
            _object(field, value, violations)
            return
        if len(value) > MAX_LOGIT_BIASES:
            violations.add(field, f"has {len(value)} entries; the limit is {MAX_LOGIT_BIASES}")
            return
        for key, bias in value.items():
            token_id = int(key) if key.isascii() and key.isdigit() and len(key) < 20 else key
            if problem := token.problem(token_id):
                violations.add(f"{field}.{key[:40]}", f"its token id {problem}")
            elif problem := _BIAS.problem(bias):
                violations.add(f"{field}.{key}", problem)

    return check


def _too_many(field: str, value: Any, limit: int, violations: Violations) -> bool:
    if not isinstance(value, list):
        violations.add(field, f"is {shown(value)}; it must be a list")
    elif len(value) > limit:
        violations.add(field, f"has {len(value)} entries; the limit is {limit}")
    else:
        return False
    return True
