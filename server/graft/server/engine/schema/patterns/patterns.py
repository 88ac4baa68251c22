"""Regular expressions as the grammar's automata read them: no backtracking, no look-around."""

from __future__ import annotations

import functools
import json
import re

import llguidance

from graft.server.engine.schema.patterns.dialect import plain, quotable
from graft.server.engine.schema.patterns.remembering import remembered
from graft.server.engine.schema.refusal import SchemaRefused

# Of the formats that the standard names, those that the automata know; names that are none of these are notes.
FORMATS = frozenset(
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"],
)
# Wider formats, by one that is part of them.
WIDER_FORMATS = {
    "idn-email": "email",
    "idn-hostname": "hostname",
    "iri": "uri",
    "iri-reference": "uri",
    "uri-reference": "uri",
    "uri-template": "uri",
}
_POINTER = "(/([^/~]|~[01])*)*"
FORMAT_PATTERNS = {
    "json-pointer": f"^{_POINTER}$",
    "relative-json-pointer": f"^(0|[1-9][0-9]*)(#|{_POINTER})$",
}
_LIMITS = llguidance.LLParserLimits(initial_lexer_fuel=200_000, step_lexer_fuel=50_000, max_lexer_states=20_000)


@functools.cache
def _bytes() -> llguidance.LLTokenizer:
    return llguidance.LLTokenizer("byte")


def fault(grammar: str) -> str:
    """Why a grammar cannot be compiled, or the empty string."""
    return llguidance.LLMatcher.validate_grammar(grammar, _bytes(), limits=_LIMITS)


def is_empty(grammar: str) -> bool:
    """Whether a grammar that can be compiled has no text at all, as far as its first byte tells."""
    matcher = llguidance.LLMatcher(_bytes(), grammar, log_level=0, limits=_LIMITS)
    matcher.compute_bitmask()
    return bool(matcher.is_error())


def check_pattern(pattern: str, pointer: str, keyword: str) -> None:
    """Raises `SchemaRefused` for a pattern that is broken or asks for more than an automaton can do."""
    try:
        re.compile(plain(pattern))
    except (re.error, RecursionError, OverflowError) as error:
        problem = f"`{pattern[:80]}` is not a regular expression: {str(error)[:80]}"
        raise SchemaRefused(problem, pointer=pointer, keyword=keyword) from error
    if _schema_fault(pattern):
        problem = (
            f"`{pattern[:80]}` cannot be enforced: it matches nothing, is too large, or uses look-around, a reference "
            "back or an anchor inside; write it without"
        )
        raise SchemaRefused(problem, pointer=pointer, keyword=keyword)


@remembered(maxsize=4096)
def _schema_fault(pattern: str) -> str:
    return fault(_grammar(pattern))


def _grammar(pattern: str) -> str:
    return llguidance.LLMatcher.grammar_from_json_schema(string_schema((pattern,)))


def string_schema(
    patterns: tuple[str, ...], formats: tuple[str, ...] = (), low: int = 0, high: int | None = None
) -> str:
    """The JSON schema of a string for llguidance, which quotes what a pattern allows as JSON does."""
    parts: list[dict[str, object]] = [{"type": "string", "pattern": quotable(pattern)} for pattern in patterns]
    parts += [{"type": "string", "pattern": "^[\\x00-\\x7F]*$"} for pattern in patterns[:1] if _complements(patterns)]
    parts += [{"type": "string", "format": name} for name in formats]
    bounds: dict[str, object] = {"type": "string", "minLength": low}
    if high is not None:
        bounds["maxLength"] = high
    return json.dumps({"allOf": [*parts, bounds]} if len(parts) > 1 else {**(parts[0] if parts else {}), **bounds})


def _complements(patterns: tuple[str, ...]) -> bool:
    """Whether a class such as `\\D` is used, which stands for more or less of Unicode in each dialect."""
    return any(re.search(r"\\[DWSB]", pattern) for pattern in patterns)


@remembered(maxsize=8192)
def matches(pattern: str, text: str) -> bool:
    """Whether the pattern is found in the text; in linear time."""
    return accepts(_grammar(pattern), json.dumps(text, ensure_ascii=False))


@remembered(maxsize=1024)
def is_of_format(name: str, text: str) -> bool:
    """Whether the text is of a format in `FORMATS`."""
    grammar = llguidance.LLMatcher.grammar_from_json_schema(string_schema((), (name,)))
    return accepts(grammar, json.dumps(text, ensure_ascii=False))


def accepts(grammar: str, text: str) -> bool:
    """Whether the whole text follows the grammar."""
    tokenizer = _bytes()
    matcher = llguidance.LLMatcher(tokenizer, grammar, log_level=0)
    tokens = tokenizer.tokenize_bytes(text.encode("utf-8", "surrogatepass"))
    return bool(matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting())
