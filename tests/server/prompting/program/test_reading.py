"""A program is read as a whole, or refused with every reason, by path."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.server.errors import BadInput
from graft.server.prompting.program.canonical import canonical_json, digest_of, program_object
from graft.server.prompting.program.notices import notices_of
from graft.server.prompting.program.program import Demonstration, PromptProgram
from graft.server.prompting.program.reading import MAX_BYTES, read_program
from graft.server.runtime.violations import MAX_VIOLATIONS

SHOTS = [{"inputs": {"text": "fine"}, "output": "good"}, {"inputs": {"text": "awful"}, "output": "bad"}]
FULL: dict[str, Any] = {
    "prompt": [
        {"role": "system", "content": "Say {{what}}."},
        {"type": "placeholder", "name": "demonstrations"},
        {"role": "user", "content": "{{text}}"},
    ],
    "type": "chat",
    "mode": "few_shot",
    "demonstrations": SHOTS,
    "choosing": {"method": "random", "count": 2, "seed": 7},
    "reasoning": {"method": "chain_of_thought", "paths": 5, "vote": "weighted"},
    "output": {"type": "choices", "choices": ["good", "bad"]},
    "scoring": {"calibration": "contextual", "normalize": "byte"},
    "decoding": {"temperature": 0.7, "stop": ["\n"]},
    "extraction": {"method": "choice"},
    "model": "fable:canary",
    "tests": [{"variables": {"text": "lovely"}, "equals": "good"}],
    "config": {"z": 1, "a": [None, 1.5, {"b": "ü"}]},
}


def refused(value: Any) -> dict[str, str]:
    with pytest.raises(BadInput) as caught:
        read_program(value if isinstance(value, str) else json.dumps(value))
    return {one.field: one.problem for one in caught.value.violations}


def test_what_was_imported_is_exported() -> None:
    program = read_program(json.dumps(FULL))
    assert program_object(program) == FULL
    again = read_program(canonical_json(program))
    assert again == program and canonical_json(again) == canonical_json(program)


def test_what_is_default_and_how_it_is_written_is_not_content() -> None:
    spoken = {"prompt": "a {{b}}", "type": "text", "mode": None, "choosing": {"method": "fixed"}, "config": {}}
    short = canonical_json(read_program('{"prompt":"a {{b}}"}'))
    assert canonical_json(read_program(json.dumps(spoken, indent=4))) == short == '{"prompt":"a {{b}}"}'
    # The digest is that of the text's bytes, so that others can compute it.
    assert digest_of(short) == f"sha256:{hashlib.sha256(short.encode()).hexdigest()}"


def test_the_order_of_a_schema_is_content() -> None:
    """Properties are generated in their order."""

    def digest(*names: str) -> str:
        schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
        return digest_of(canonical_json(read_program(json.dumps({"prompt": "x", "output": output(schema)}))))

    def output(schema: Any) -> Any:
        return {"type": "json_schema", "json_schema": schema}

    assert digest("a", "b") != digest("b", "a")


@given(
    st.builds(
        PromptProgram,
        prompt=st.text(min_size=1, max_size=20).filter(lambda text: text.strip() and "{" not in text),
        demonstrations=st.lists(
            st.builds(
                Demonstration,
                inputs=st.dictionaries(st.text(max_size=5), st.text(max_size=5), min_size=1, max_size=3),
                output=st.text(max_size=5),
                rationale=st.none() | st.text(max_size=5),
                label=st.none() | st.text(max_size=5),
            ),
            max_size=3,
        ).map(tuple),
    )
)
def test_every_program_is_read_as_it_was_written(program: PromptProgram) -> None:
    assert read_program(canonical_json(program)) == program


def test_every_reason_at_once_by_path() -> None:
    found = refused(
        {
            "prompt": [{"role": "users", "content": "x"}, {"type": "placeholder", "nme": "d"}, 3],
            "demonstration": [],
            "output": {"type": "choice"},
            "decoding": {"temperature": "1", "max_tokens": 0},
        }
    )
    assert found.keys() == {
        "program.prompt[0].role", "program.prompt[1].nme", "program.prompt[1].name", "program.prompt[2]",
        "program.demonstration", "program.output.type", "program.decoding.temperature", "program.decoding.max_tokens",
    }  # fmt: skip
    assert found["program.demonstration"] == "is not known; did you mean `demonstrations`?"
    assert found["program.prompt[1].nme"] == "is not known; did you mean `name`?"
    assert found["program.prompt[0].role"].startswith("is \"users\"; it must be 'system'")


@pytest.mark.parametrize(
    ("changed", "field", "words"),
    [
        ({"prompt": 3}, "prompt", "must be a text, or a list of turns"),
        ({"prompt": " \n"}, "prompt", "is empty"),
        ({"prompt": []}, "type", 'say "chat"'),
        ({"type": "chat"}, "type", 'say "text"'),
        ({"prompt": "{{demonstrations}} {{ demonstrations }}"}, "prompt", "2 times"),
        ({"mode": "few_shot"}, "mode", "no demonstrations"),
        ({"demonstrations": SHOTS, "choosing": {"count": 3}}, "choosing.count", "there are 2"),
        ({"demonstrations": SHOTS, "choosing": {"count": 2}, "mode": "one_shot"}, "choosing.count", "one_shot"),
        ({"output": {"type": "choices"}}, "output.choices", "is missing"),
        ({"output": {"type": "choices", "choices": ["a"]}}, "output.choices", "at least 2"),
        ({"output": {"type": "choices", "choices": ["a", "a"]}}, "output.choices[1]", "again"),
        ({"output": {"type": "choices", "choices": ["a", ""]}}, "output.choices[1]", "is empty"),
        ({"output": {"choices": ["a", "b"]}}, "output.choices", 'say "choices"'),
        ({"output": {"type": "regex", "regex": "(?=a)b"}}, "output.regex", "RE2"),
        ({"output": {"type": "regex", "regex": "(a{90}){90}"}}, "output.regex", "multiply"),
        ({"output": {"type": "regex", "regex": "a" * 2001}}, "output.regex", "the limit is 2000"),
        ({"output": {"type": "json_schema", "json_schema": {"type": "strin"}}}, "output.json_schema", "strin"),
        ({"output": {"type": "json_schema", "json_schema": {"$ref": "#"}}}, "output.json_schema", "refers to itself"),
        ({"extraction": {"method": "regex"}}, "extraction.pattern", "is missing"),
        ({"extraction": {"method": "regex", "pattern": "("}}, "extraction.pattern", "RE2"),
        ({"extraction": {"method": "regex", "pattern": "(a{1000}){1000}"}}, "extraction.pattern", "RE2"),
        ({"extraction": {"marker": "so"}}, "extraction.marker", "no effect"),
        ({"extraction": {"method": "choice"}}, "extraction.method", "no output.choices"),
        ({"reasoning": {"paths": 5}, "decoding": {"temperature": 0}}, "decoding.temperature", "the same"),
        ({"reasoning": {"paths": 65}}, "reasoning.paths", "less than or equal to 64"),
        ({"scoring": {"premise": "x"}}, "scoring.premise", "pmi"),
        ({"scoring": {"normalize": "unconditional", "calibration": "pmi"}}, "scoring.normalize", "twice"),
        ({"choosing": {"method": "mmr", "order": "entropy"}}, "choosing.order", "similar_last"),
        ({"documents": [{"id": "a", "text": "b"}]}, "documents", "sourcing"),
        ({"documents": [{"id": "a", "text": "b"}] * 2, "sourcing": {}}, "documents[1].id", "documents[0]'s, too"),
        ({"documents": [{"id": "a", "text": " "}], "sourcing": {}}, "documents[0].text", "is empty"),
        ({"tests": [{"variables": {}}]}, "tests[0]", "asks for nothing"),
        ({"tests": [{"variables": {}, "matches": "["}]}, "tests[0].matches", "RE2"),
        ({"model": "prompt:other"}, "model", "a program"),
        ({"decoding": {"stop": [""]}}, "decoding.stop[0]", "0 characters"),
        ({"choosing": {"seed": 2**63}}, "choosing.seed", "9223372036854775807"),
    ],
)
def test_what_does_not_go_together(changed: dict[str, Any], field: str, words: str) -> None:
    assert words in refused({"prompt": "x {{y}}", **changed})[f"program.{field}"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "must be a JSON object"),
        ("{", "is not JSON"),
        ('{"prompt": "\\ud800"}', "lone surrogate"),
        ('{"prompt": "x", "config": NaN}', "not a finite number"),
        ("[" * 100_000, "nested"),
        (json.dumps({"prompt": "x" * MAX_BYTES}), f"the limit is {MAX_BYTES}"),
    ],
)
def test_what_is_no_program_at_all(text: str, words: str) -> None:
    assert words in refused(text)["program"]


def test_ten_thousand_demonstrations_are_counted_and_not_judged() -> None:
    found = refused({"prompt": "x", "demonstrations": [{"inputs": {"a": "b"}, "output": "c"}] * 10_000})
    assert found == {"program.demonstrations": "has 10000 entries; the limit is 2000"}


def test_many_of_a_kind_leave_room_for_the_others() -> None:
    shots = [{"inputs": {"a": "b"}, "output": "c"}] * 2000
    found = refused({"prompt": "x", "demonstrations": shots, "output": {"type": "choices", "choices": ["a", "a"]}})
    assert "program.output.choices[1]" in found and len(found) == MAX_VIOLATIONS


def test_what_has_no_effect_is_said_and_taken() -> None:
    assert notices_of(read_program(json.dumps(FULL))) == ()
    idle = {"prompt": "x", "reasoning": {"vote": "weighted"}, "scoring": {"normalize": "byte"}}
    assert len(notices_of(read_program(json.dumps(idle)))) == 2


CHOICES = {"type": "choices", "choices": ["good", "bad"]}
MANY = [{"inputs": {"text": "x"}, "output": str(index)} for index in range(33)]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"output": CHOICES, "extraction": {"method": "last_number"}},
            "extraction has no effect beside direct choices",
        ),
        (
            {"output": {"type": "json_schema", "json_schema": {"type": "object"}}, "extraction": {"method": "json"}},
            "extraction has no effect beside direct json_schema",
        ),
        ({"choosing": {"method": "embedding"}, "demonstrations": SHOTS}, "no embedding engine"),
        ({"choosing": {"order": "entropy"}, "demonstrations": MANY}, "there are 33"),
        ({"choosing": {"order": "entropy"}, "demonstrations": [SHOTS[0]] * 2}, "there are 1"),
        ({"output": CHOICES, "scoring": {"orders": 4}}, "scoring.orders has no effect"),
        (
            {
                "output": CHOICES,
                "scoring": {"orders": 4},
                "demonstrations": SHOTS,
                "reasoning": {"method": "chain_of_thought"},
            },
            "after reasoning",
        ),
    ],
)
def test_a_setting_without_effect_and_one_that_no_run_can_use_are_told(fields: dict[str, Any], words: str) -> None:
    (notice,) = notices_of(read_program(json.dumps({"prompt": "{{text}}", **fields})))
    assert words in notice


@pytest.mark.parametrize(
    "fields",
    [
        {"output": CHOICES, "extraction": {"method": "choice"}, "reasoning": {"method": "chain_of_thought"}},
        {"choosing": {"order": "entropy"}, "demonstrations": SHOTS},
        {"choosing": {"order": "entropy"}, "demonstrations": MANY[:32]},
        {"output": CHOICES, "scoring": {"orders": 4}, "demonstrations": SHOTS},
    ],
)
def test_a_setting_with_effect_is_not(fields: dict[str, Any]) -> None:
    assert notices_of(read_program(json.dumps({"prompt": "{{text}}", **fields}))) == ()
