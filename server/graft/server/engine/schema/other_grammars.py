"""Forms that are no JSON schema: a choice, a regular expression, a grammar, and text with tags around JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import llguidance

from graft.server.engine.schema.compiler_errors import in_one_line
from graft.server.engine.schema.endless import never_ends
from graft.server.engine.schema.json_schema import JsonSchema
from graft.server.engine.schema.patterns.patterns import fault, is_empty
from graft.server.engine.schema.refusal import SchemaRefused

_MAX_TAGS = 64


def choice_fault(value: Any) -> str:
    """What is wrong with a list of texts to choose from, or the empty string."""
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        return "must be a list of one text or more"
    return "holds an empty text only" if not any(value) else ""


def regex_fault(value: Any) -> str:
    """What is wrong with a regular expression."""
    if not isinstance(value, str):
        return "must be a text"
    if "\0" in value:
        return "holds a NUL character"
    if (len(value) - len(value.rstrip("\\"))) % 2:
        return "ends in a backslash, which escapes nothing"
    return _told("regular expression", _unfit(llguidance.LLMatcher.grammar_from_regex(value)))


def grammar_fault(value: Any) -> str:
    """What is wrong with a grammar in GBNF or Lark."""
    if not isinstance(value, str) or not value.strip():
        return "must be the text of a grammar"
    try:
        grammar = llguidance.grammar_from("grammar", value)
        return _told("grammar", _unfit(grammar) or ("no text that follows it ends" if never_ends(grammar) else ""))
    except (ValueError, RecursionError) as error:
        return _told("grammar", str(error))


def _unfit(grammar: str) -> str:
    return fault(grammar) or ("no text follows it" if is_empty(grammar) else "")


def _told(what: str, problem: str) -> str:
    if not problem:
        return ""
    return f"is no {what} that can be enforced: {in_one_line(problem, of_a_grammar=what == 'grammar')}"


def tags_grammar(wanted: Mapping[str, Any], room: int) -> str:
    """Free text in which each trigger begins one of the structures. Raises `SchemaRefused`."""
    structures, triggers = wanted.get("structures"), wanted.get("triggers")
    if not isinstance(structures, list) or not isinstance(triggers, list) or not structures or not triggers:
        raise SchemaRefused("`structures` and `triggers` are missing: other structural tags are not supported")
    if len(structures) > _MAX_TAGS:
        raise SchemaRefused(f"`structures` has {len(structures)} entries; the limit is {_MAX_TAGS}")
    if not all(isinstance(trigger, str) and trigger for trigger in triggers):
        raise SchemaRefused("`triggers` must be a list of texts, none of them empty")
    rules: list[str] = []
    for index, structure in enumerate(structures):
        rules += _tag(index, structure, triggers, room // 2)
    tags = " | ".join(f"tag{index}" for index in range(len(structures)))
    text = "\n".join(["%llguidance {}", f"start: ({tags})* tagend", "tagend: TEXT", "TEXT: /(?s:.*)/", *rules])
    if problem := fault(text):
        raise SchemaRefused(_told("structural tag", problem))
    return text


def _tag(index: int, structure: Any, triggers: list[str], room: int) -> list[str]:
    place = f"/structures/{index}"
    parts = structure if isinstance(structure, Mapping) else {}
    begin, end, schema = parts.get("begin"), parts.get("end", ""), parts.get("schema", True)
    if not isinstance(begin, str) or not isinstance(end, str) or not isinstance(schema, Mapping | bool):
        raise SchemaRefused("needs the texts `begin` and `end` and an object `schema`", pointer=place)
    trigger = next((one for one in triggers if begin.startswith(one)), None)
    if trigger is None:
        raise SchemaRefused(f"`begin` {json.dumps(begin)[:60]} starts with none of `triggers`", pointer=place)
    name = f"t{index}-"
    rest = [json.dumps(text, ensure_ascii=False) for text in (begin[len(trigger) :], end) if text]
    before = rest[0] if begin != trigger else ""
    after = rest[-1] if end else ""
    try:
        body = JsonSchema(schema).rules(room, prefix=name)
    except SchemaRefused as error:
        raise SchemaRefused(f"of the structure {index}: {error}", pointer=f"{place}/schema") from error
    head = f"tag{index}-head[lazy]: TEXT {json.dumps(trigger, ensure_ascii=False)}"
    return [head, f"tag{index}: tag{index}-head {before} {name}start {after}", *body]
