"""Bounds on what one request may ask for, the same over gRPC and HTTP, checked before the engine hears of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graft.server.engine.schema.bounds import (
    MAX_SCHEMA_CHARACTERS,
    check_json_schema,
    check_pattern,
    check_schema_text,
    too_long,
)
from graft.server.runtime.violations import Violations

MAX_CHOICES = 64
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 256
MAX_LOGPROBS = 20
MAX_CONTINUATIONS = 256
MAX_MESSAGES = 4096
MAX_LOGIT_BIASES = 1024
MAX_LIST_ENTRIES = 1_024
MAX_STOP_TOKEN_IDS = 100
"""vLLM's runner on GPUs holds 128 beside `min_tokens`, the base's own among them, and ends at one more."""
MAX_BAD_WORDS_BYTES = 4096
"""Of all bad words together, in UTF-8. Each is tokenized twice, with a space before it and without; a token has a byte
at least, and what a GPU's runner holds of their tokens is set in the engine's environment.
"""
MAX_SEQUENCES = 128


def _check_structure(wanted: Mapping[str, Any], violations: Violations) -> None:
    for key, value in violations.until_full(wanted.items()):
        field = f"structured_outputs.{key[:40]}"
        if key in ("json", "structural_tag") and value is not None:
            check = check_schema_text if isinstance(value, str) else check_json_schema
            check(value, field, violations)
        elif key == "choice" and isinstance(value, list):
            _check_choice(value, field, violations)
        elif isinstance(value, str):
            check_pattern(value, field, violations)


def _check_choice(texts: list[Any], field: str, violations: Violations) -> None:
    if len(texts) > MAX_LIST_ENTRIES:
        violations.add(field, f"has {len(texts)} entries; the limit is {MAX_LIST_ENTRIES}")
        return
    num_characters = sum(len(text) for text in texts if isinstance(text, str))
    if num_characters > MAX_SCHEMA_CHARACTERS:
        violations.add(field, too_long(num_characters))


def _check_response_format(wanted: Mapping[str, Any], violations: Violations) -> None:
    described = wanted.get("json_schema")
    schema = described.get("schema") if isinstance(described, Mapping) else None
    if isinstance(described, Mapping) and isinstance(schema, Mapping):
        check_json_schema(schema, "response_format.json_schema.schema", violations)
        described = {key: value for key, value in described.items() if key != "schema"}
    check_json_schema({**wanted, "json_schema": described}, "response_format", violations)


def check_structures(body: Mapping[str, Any], violations: Violations) -> None:
    """Bounds on what a request says about the structure of its answer."""
    if isinstance(body.get("response_format"), Mapping):
        _check_response_format(body["response_format"], violations)
    if isinstance(body.get("structured_outputs"), Mapping):
        _check_structure(body["structured_outputs"], violations)
