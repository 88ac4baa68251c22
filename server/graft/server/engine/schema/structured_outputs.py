"""What a request asks of the form of its reply, as a grammar; refused, with its field, where no reply can keep it.

`response_format` and vLLM's `structured_outputs` are the two names of the same wish.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from graft.server.engine.engine import InvalidRequest, Sampling
from graft.server.engine.schema.json_schema import JsonSchema
from graft.server.engine.schema.other_grammars import choice_fault, grammar_fault, regex_fault, tags_grammar
from graft.server.engine.schema.refusal import SchemaRefused
from graft.server.runtime.json_values import BadJson, read_json

_FORMATS = ("text", "json_object", "json_schema", "structural_tag")
_DESCRIBED = ("name", "description", "schema", "strict")
_KINDS = ("json", "json_object", "regex", "choice", "grammar", "structural_tag")
# vLLM's switches for its own schema compiler: ours writes no blanks, and no properties that are not spoken of.
_SWITCHES = ("disable_any_whitespace", "disable_additional_properties")
_TRIAL_ROOM = 1_000
# What forbids tokens, too, or goes on where the form ends. With the largest number that does no harm.
_AGAINST_FORMS = {"min_tokens": 1, "allowed_token_ids": 0, "bad_words": 0, "ignore_eos": 0}
_BESIDE = "cannot be kept beside a form, which says what may follow and where the reply ends; leave it out"
COMPLETION_TOKENS = 16  # OpenAI's default for text completions


@dataclass(frozen=True, kw_only=True)
class Structure:
    """A form: `write` gives vLLM's `structured_outputs` for a reply of so many characters."""

    field: str
    write: Callable[[int], Mapping[str, Any]]

    def within(self, room: int) -> Mapping[str, Any]:
        """Raises `InvalidRequest` with the field."""
        try:
            return self.write(max(room, 1))
        except SchemaRefused as error:
            raise _refused(str(error), self.field) from error
        except RecursionError as error:
            raise _refused("its schemas lie too deep inside each other; make it flatter", self.field) from error


def check_structure(body: Mapping[str, Any], structure: Structure | None = None) -> None:
    """Raises `InvalidRequest` where no reply can be held to the form that the request asks for, or to the one given."""
    structure = structure or structure_of(body)
    if structure is None:
        return
    for name, largest in _AGAINST_FORMS.items():
        value = body.get(name)
        if value and not (isinstance(value, int) and value <= largest):
            raise _refused(_BESIDE, name)
    structure.within(_TRIAL_ROOM)


def check_schema_text(text: str, field: str, *, ignore_eos: bool = False) -> None:
    """The same for a schema as text, of the field `….json_schema`. Raises `InvalidRequest`."""
    if ignore_eos:
        raise _refused(_BESIDE, field.replace("json_schema", "ignore_eos"))
    _by_schema(text, field).within(_TRIAL_ROOM)


def structure_within(sampling: Sampling, room: int) -> Mapping[str, Any]:
    """What replies of so many characters must follow, in vLLM's words. Raises `InvalidRequest`."""
    if sampling.json_schema is not None:
        return _by_schema(sampling.json_schema, "sampling.json_schema").within(room)
    if sampling.regex is not None:
        return _plain("regex", sampling.regex, "sampling.regex").within(room)
    return _plain("choice", list(sampling.options), "sampling.options").within(room)


def with_grammar(
    body: Mapping[str, Any],
    structure: Structure | None = None,
    *,
    left_tokens: int,
    characters_per_token: float,
) -> dict[str, Any]:
    """The body as vLLM is to see it: its form (or the one given), if any, as a grammar that fits into the reply's
    tokens.

    `left_tokens` are those that the prompt leaves of the context. Raises `InvalidRequest`.
    """
    structure = structure or structure_of(body)
    if structure is None:
        return {key: value for key, value in body.items() if key not in ("response_format", "structured_outputs")}
    tokens = _reply_tokens(body, left_tokens)
    wanted = structure.within(int((tokens - 1) * characters_per_token))
    return {**body, "response_format": None, "structured_outputs": dict(wanted)}


def structure_of(body: Mapping[str, Any]) -> Structure | None:
    """The form that the request asks for, None for plain text. Raises `InvalidRequest`."""
    wanted, options = body.get("response_format"), body.get("structured_outputs")
    by_format = None if wanted is None else _of_response_format(wanted)
    if options is None:
        return by_format
    if by_format is not None:
        raise _refused("is a second form beside `response_format`; give one", "structured_outputs")
    return _of_structured_outputs(options)


def json_form(body: Mapping[str, Any]) -> str | None:
    """The JSON Schema, as text, of a form that is one; None where there is none, or another, or a broken one."""
    wanted, options = body.get("response_format"), body.get("structured_outputs")
    schema: Any = None
    if isinstance(wanted, Mapping):
        described = wanted.get("json_schema")
        schema = described.get("schema") if isinstance(described, Mapping) else None
        is_open = wanted.get("type") == "json_object"
    elif isinstance(options, Mapping):
        schema, is_open = options.get("json"), options.get("json_object") is True
    else:
        return None
    if is_open:
        return '{"type":"object"}'
    return json.dumps(schema, ensure_ascii=False) if isinstance(schema, Mapping) else None


def _of_response_format(wanted: Any) -> Structure | None:
    kind = _mapping(wanted, "response_format").get("type")
    if kind not in _FORMATS:
        given = "is missing" if kind is None else f"is {json.dumps(kind)[:40]}"
        raise _refused(f"{given}; it is one of {', '.join(_FORMATS)}", "response_format.type")
    if kind != "json_schema" and wanted.get("json_schema") is not None:
        raise _refused(
            f"has no effect beside type `{kind}`; say `json_schema`, or leave it out", "response_format.json_schema"
        )
    if kind != "structural_tag":
        known = ("type", "json_schema") if kind == "json_schema" else ("type",)
        _check_known(wanted, known, "response_format", f"beside the type `{kind}`")
    if kind == "text":
        return None
    if kind == "json_object":
        return _by_schema('{"type":"object"}', "response_format")
    if kind == "structural_tag":
        return _by_tags(wanted, "response_format")
    field = "response_format.json_schema"
    described = _mapping(wanted.get("json_schema"), field)
    _check_known(described, _DESCRIBED, field, "in `json_schema`")
    if "schema" not in described or described["schema"] is None:
        raise _refused("is missing: give the schema, or ask for `json_object`", f"{field}.schema")
    if not isinstance(described.get("name"), str):
        raise _refused("is missing: give the schema a name", f"{field}.name")
    return _by_schema(_text(described["schema"], f"{field}.schema"), f"{field}.schema")


def _check_known(given: Mapping[str, Any], known: tuple[str, ...], field: str, where: str) -> None:
    for key, value in given.items():
        if key not in known and value is not None:
            remedy = "; give it as `json_schema`, with that type" if key == "schema" else ""
            raise _refused(f"is not known {where}, which takes {', '.join(known)}{remedy}", f"{field}.{key[:40]}")


def _of_structured_outputs(options: Any) -> Structure | None:
    field = "structured_outputs"
    given = {key: value for key, value in _mapping(options, field).items() if value is not None}
    for key in given:
        if key == "whitespace_pattern":
            raise _refused("is not supported: JSON is written without blanks; leave it out", f"{field}.{key}")
        if key not in _KINDS + _SWITCHES:
            raise _refused(f"is not known; it is one of {', '.join(_KINDS)}", f"{field}.{key[:40]}")
    kinds = [key for key in _KINDS if key in given]
    if len(kinds) != 1:
        problem = f"asks for {' and '.join(kinds)}" if kinds else "asks for nothing"
        raise _refused(f"{problem}; give one of {', '.join(_KINDS)}", field)
    (kind,) = kinds
    value, field = given[kind], f"{field}.{kind}"
    if kind == "json":
        return _by_schema(value if isinstance(value, str) else _text(value, field), field)
    if kind == "json_object":
        if value is not True:
            raise _refused("must be true; leave it out otherwise", field)
        return _by_schema('{"type":"object"}', field)
    if kind == "structural_tag":
        return _by_tags(_parsed(value, field) if isinstance(value, str) else value, field)
    return _plain(kind, value, field)


def _plain(kind: str, value: Any, field: str) -> Structure:
    """A choice, a regular expression or a grammar, which the engine reads itself."""
    faults = {"choice": choice_fault, "regex": regex_fault, "grammar": grammar_fault}

    def write(room: int) -> Mapping[str, Any]:
        if problem := faults[kind](value):
            raise SchemaRefused(problem)
        return {kind: value}

    return Structure(field=field, write=write)


def _by_schema(text: str, field: str) -> Structure:
    def write(room: int) -> Mapping[str, Any]:
        return {"grammar": _schema(text).grammar(room)}

    return Structure(field=field, write=write)


def _by_tags(wanted: Any, field: str) -> Structure:
    def write(room: int) -> Mapping[str, Any]:
        return {"grammar": tags_grammar(_mapping(wanted, field), room)}

    return Structure(field=field, write=write)


@functools.lru_cache(maxsize=64)
def _schema(text: str) -> JsonSchema:
    try:
        schema = read_json(text)
    except BadJson as error:
        raise SchemaRefused(str(error)) from error
    if not isinstance(schema, Mapping | bool):
        raise SchemaRefused("must be an object")
    return JsonSchema(schema)


def _refused(problem: str, field: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {problem}", field=field)


def _text(schema: Any, field: str) -> str:
    if not isinstance(schema, Mapping | bool):
        raise _refused("must be an object", field)
    return json.dumps(schema, ensure_ascii=False)


def _parsed(text: str, field: str) -> Any:
    try:
        return read_json(text)
    except BadJson as error:
        raise _refused(str(error), field) from error


def _mapping(value: Any, field: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _refused("is missing" if value is None else "must be an object", field)
    return value


def _reply_tokens(body: Mapping[str, Any], left_tokens: int) -> int:
    """How many tokens the reply may take: those asked for, or what is left."""
    default = left_tokens if "messages" in body else COMPLETION_TOKENS
    wanted = body.get("max_completion_tokens") or body.get("max_tokens") or default
    return max(2, min(int(wanted), left_tokens))
