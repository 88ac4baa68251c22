"""From JSON text to a program, or all that is wrong with it at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from graft.server.prompting.program.checks import check_program
from graft.server.prompting.program.program import PromptProgram, Value
from graft.server.runtime.json_values import BadJson, read_json
from graft.server.runtime.violations import Violations, shown

MAX_BYTES = 1 << 20
MAX_ENTRIES: Mapping[str, int] = {"demonstrations": 2_000, "documents": 1_000, "tests": 256, "prompt": 256}
_MAX_FIELD_CHARACTERS = 80


def read_program(text: str, *, field: str = "program") -> PromptProgram:
    """The program of a JSON text. Raises `BadInput` with every reason (32 are told), by paths from `field` on."""
    violations = Violations()
    num_bytes = len(text.encode(errors="replace"))
    if num_bytes > MAX_BYTES:
        violations.add(field, f"has {num_bytes} bytes; the limit is {MAX_BYTES}")
    violations.raise_any()
    value = _object(text, field, violations)
    for name, limit in MAX_ENTRIES.items():
        entries = value.get(name)
        if isinstance(entries, list) and len(entries) > limit:
            violations.add(f"{field}.{name}", f"has {len(entries)} entries; the limit is {limit}")
    violations.raise_any()
    try:
        program = PromptProgram.model_validate_json(text)
    except ValidationError as error:
        details = error.errors(include_url=False)
        for detail in violations.until_full(details):
            violations.add(f"{field}{_path(detail, value)}", _problem(detail))
        violations.raise_any()
        raise
    check_program(program, field, violations)
    violations.raise_any()
    return program


def _object(text: str, field: str, violations: Violations) -> Mapping[str, Any]:
    try:
        value = read_json(text)
    except BadJson as error:
        violations.add(field, str(error))
        value = {}
    if not isinstance(value, Mapping):
        violations.add(field, f"is {shown(value)}; it must be a JSON object")
    violations.raise_any()
    return dict(value)


def _path(detail: ErrorDetails, root: Any) -> str:
    """The place in the JSON, without the names that pydantic gives to the branches of a union."""
    path, value = "", root
    for number, part in enumerate(detail["loc"], start=1):
        if isinstance(part, int):
            path += f"[{part}]"
            value = value[part] if isinstance(value, list) and part < len(value) else None
        elif isinstance(value, Mapping) and part in value:
            path += f".{part[:_MAX_FIELD_CHARACTERS]}"
            value = value[part]
        elif number == len(detail["loc"]) and detail["type"] == "missing":
            path += f".{part}"
    return path


def _problem(detail: ErrorDetails) -> str:
    kind, value = detail["type"], detail.get("input")
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return _unknown(detail)
    message = detail["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    if message != detail["msg"]:
        message = f"it must be {message}"
    elif "should" in message:
        message = f"it {message[message.index('should') :].replace('should', 'must', 1)}"
    length = f" of {len(value)} characters" if kind == "string_too_long" and isinstance(value, str) else ""
    return f"is {shown(value)}{length}; {message}"


def _unknown(detail: ErrorDetails) -> str:
    name = str(detail["loc"][-1])
    known = sorted({field for model in _models_at(detail["loc"][:-1]) for field in model.model_fields})
    near = difflib.get_close_matches(name[:_MAX_FIELD_CHARACTERS], known, n=1, cutoff=0.6)
    return f"is not known; did you mean `{near[0]}`?" if near else f"is not known; there are {', '.join(known)}"


def _models_at(location: tuple[int | str, ...]) -> list[type[Value]]:
    models: list[type[Value]] = [PromptProgram]
    for part in location:
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        if fields:
            models = [model for one in fields for model in _models_in(one.annotation)]
    return models


def _models_in(annotation: Any) -> Iterator[type[Value]]:
    if isinstance(annotation, type) and issubclass(annotation, Value):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
