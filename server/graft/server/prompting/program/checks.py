"""What no field's type says: which fields of a program go together."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable

from graft.server.engine.engine import InvalidRequest
from graft.server.engine.schema.bounds import check_json_schema, check_pattern
from graft.server.engine.schema.other_grammars import regex_fault
from graft.server.engine.schema.structured_outputs import check_schema_text
from graft.server.errors import BadInput, Violation
from graft.server.prompting.patterns import compiled
from graft.server.prompting.program.documents import check_documents
from graft.server.prompting.program.program import (
    DEMONSTRATIONS,
    Calibration,
    Placeholder,
    PromptProgram,
    PromptType,
    TemplateFormat,
)
from graft.server.prompting.program.references import is_prompt_reference
from graft.server.runtime.violations import Violations, shown

OF_THE_INPUT = frozenset({"bm25", "mmr", "embedding"})
"""Methods that choose other demonstrations for another input."""
MAX_CHOICES = 256
MAX_ORDERED_LABELS = 32
"""An order by entropy asks for each of them, many times."""
MAX_CHOICE_CHARACTERS = 1_000
MAX_STOPS = 16
MAX_CONTENT_FREE = 16
MAX_STOP_CHARACTERS = 256
_MAX_MODEL_CHARACTERS = 256
_PLACEHOLDER = re.compile(r"\{\{\s*" + DEMONSTRATIONS + r"\s*\}\}")
Check = Callable[[str, str], None]
"""Told of a field below the program, and what is wrong with it."""


def check_program(program: PromptProgram, field: str, violations: Violations) -> None:
    """Adds what is wrong, by paths from `field` on."""

    def add(path: str, problem: str) -> None:
        violations.add(f"{field}.{path}", problem)

    _check_prompt(program, add)
    _check_shots(program, add)
    _check_output(program, field, add, violations)
    _check_extraction(program, add)
    _check_reasoning(program, add)
    _check_scoring(program, add)
    _check_decoding(program, add)
    _check_documents(program, field, add, violations)
    _check_tests(program, add, violations)
    if program.model is not None:
        _check_model(program.model, add)
    # Last: two thousand of them would leave no room for what else is wrong.
    _check_demonstrations(program, add, violations)


def _check_prompt(program: PromptProgram, add: Check) -> None:
    is_text = isinstance(program.prompt, str)
    if is_text != (program.type is PromptType.TEXT):
        other = "text" if is_text else "chat"
        add(
            "type",
            f'is "{program.type}", and the prompt is {"a text" if is_text else "a list of turns"}; say "{other}"',
        )
    if not program.prompt or (isinstance(program.prompt, str) and not program.prompt.strip()):
        add("prompt", "is empty")
    if isinstance(program.prompt, str):
        # Jinja may write it in a branch or a loop: that is judged when it is rendered.
        is_plain = program.template_format is TemplateFormat.MUSTACHE
        num_places = len(_PLACEHOLDER.findall(program.prompt)) if is_plain else 0
    else:
        places = [one.name for one in program.prompt if isinstance(one, Placeholder)]
        num_places = places.count(DEMONSTRATIONS)
        for name in sorted({one for one in places if places.count(one) > 1} - {DEMONSTRATIONS}):
            add("prompt", f"has the placeholder {shown(name)} more than once")
    if num_places > 1:
        add("prompt", f"has the place for demonstrations {num_places} times; it can stand there once")


def _check_shots(program: PromptProgram, add: Check) -> None:
    found, count = program.demonstrations, program.choosing.count
    if program.mode in ("one_shot", "few_shot") and not found:
        add("mode", f'is "{program.mode}", and there are no demonstrations')
    if program.mode == "few_shot" and count == 0:
        add("choosing.count", 'is 0 beside the mode "few_shot"; say "zero_shot"')
    if program.mode == "one_shot" and count not in (None, 1):
        add("choosing.count", f'is {count} beside the mode "one_shot"; leave it out, or say "few_shot"')
    if count is not None and count > len(found):
        have = "there are none" if not found else f"there are {len(found)}"
        add("choosing.count", f"is {count} demonstrations, and {have}")
    if program.choosing.order == "entropy" and program.choosing.method in OF_THE_INPUT:
        method = program.choosing.method
        add(
            "choosing.order",
            f'tries orders of one set, and "{method}" takes another for each input; say "similar_last"',
        )


def _check_demonstrations(program: PromptProgram, add: Check, violations: Violations) -> None:
    for number, one in enumerate(violations.until_full(program.demonstrations)):
        if not one.inputs:
            add(f"demonstrations[{number}].inputs", "is empty")
        if program.output.choices and one.output not in program.output.choices:
            add(f"demonstrations[{number}].output", f"is {shown(one.output)}, which is none of output.choices")


def _check_output(program: PromptProgram, field: str, add: Check, violations: Violations) -> None:
    output = program.output
    for name, kind in (("choices", "choices"), ("json_schema", "json_schema"), ("regex", "regex")):
        is_given = getattr(output, name) is not None
        if is_given and output.type != kind:
            add(f"output.{name}", f'has no effect beside the type "{output.type}"; say "{kind}", or leave it out')
        if not is_given and output.type == kind:
            add(f"output.{name}", f'is missing: the type is "{kind}"')
    if output.choices is not None:
        _check_choices(output.choices, add)
    if output.regex is not None:
        add_all(violations, _regex_problems(output.regex, f"{field}.output.regex"))
    if output.json_schema is not None:
        add_all(violations, _schema_problems(output.json_schema, f"{field}.output.json_schema"))


def _check_choices(choices: tuple[str, ...], add: Check) -> None:
    if len(choices) < 2:
        add("output.choices", f"has {len(choices)} entries; there must be at least 2")
    if len(choices) > MAX_CHOICES:
        add("output.choices", f"has {len(choices)} entries; the limit is {MAX_CHOICES}")
        return
    for number, one in enumerate(choices):
        if not one.strip():
            add(f"output.choices[{number}]", "is empty")
        if len(one) > MAX_CHOICE_CHARACTERS:
            add(f"output.choices[{number}]", f"has {len(one)} characters; the limit is {MAX_CHOICE_CHARACTERS}")
        if one in choices[:number]:
            add(f"output.choices[{number}]", f"is {shown(one)} again, as entry {choices.index(one)}")


def add_all(violations: Violations, found: Iterable[Violation]) -> None:
    """Adds each of `found`."""
    for one in found:
        violations.add(one.field, one.problem)


def _regex_problems(pattern: str, field: str) -> tuple[Violation, ...]:
    bounds = Violations()
    check_pattern(pattern, field, bounds)
    try:
        bounds.raise_any()
        problem = _pattern_problem(pattern) or regex_fault(pattern)
    except BadInput as error:
        return error.violations
    return (Violation(field=field, problem=problem),) if problem else ()


def _schema_problems(schema: object, field: str) -> tuple[Violation, ...]:
    bounds = Violations()
    check_json_schema(schema, field, bounds)
    try:
        bounds.raise_any()
        check_schema_text(json.dumps(schema, ensure_ascii=False), field)
    except BadInput as error:
        return error.violations
    except InvalidRequest as error:
        return (Violation(field=field, problem=str(error).removeprefix(f"{field}: ")),)
    return ()


def _check_extraction(program: PromptProgram, add: Check) -> None:
    one = program.extraction
    needed = {"after": "marker", "regex": "pattern"}.get(one.method)
    taken = {"after": "marker", "regex": "pattern", "json": "field"}.get(one.method)
    for name in ("marker", "pattern", "field"):
        value = getattr(one, name)
        if value is None and name == needed:
            add(f"extraction.{name}", f'is missing: the method is "{one.method}"')
        if value is not None and name != taken:
            add(f"extraction.{name}", f'has no effect beside the method "{one.method}"; leave it out')
        if value == "":
            add(f"extraction.{name}", "is empty")
    if one.pattern and (problem := _pattern_problem(one.pattern)):
        add("extraction.pattern", problem)
    if one.method == "choice" and program.output.choices is None:
        add("extraction.method", 'is "choice", and there are no output.choices')


def _check_reasoning(program: PromptProgram, add: Check) -> None:
    reasoning, is_scored = program.reasoning, program.output.type == "choices" and program.reasoning.method == "direct"
    if reasoning.paths > 1 and is_scored:
        add("reasoning.paths", f"is {reasoning.paths}, and choices are scored, not sampled: reason, or say 1")
    if reasoning.paths > 1 and program.decoding.temperature == 0:
        add("decoding.temperature", f"is 0, so that all {reasoning.paths} paths would be the same; give one above 0")
    if reasoning.paths > 1 and reasoning.max_tokens is not None and reasoning.max_tokens < reasoning.paths:
        add("reasoning.max_tokens", f"is {reasoning.max_tokens}, less than a token for each of {reasoning.paths} paths")
    if reasoning.verify and is_scored:
        add("reasoning.verify", "has no effect where choices are scored; reason, or leave it out")
    for name in ("instruction", "answer_instruction", "verify_instruction"):
        text = getattr(reasoning, name)
        if text is not None and not text.strip():
            add(f"reasoning.{name}", "is empty")


def _check_scoring(program: PromptProgram, add: Check) -> None:
    scoring = program.scoring
    if scoring.calibration is Calibration.CONTEXTUAL and not scoring.content_free:
        add("scoring.content_free", 'is empty; calibration "contextual" needs at least one')
    if len(scoring.content_free) > MAX_CONTENT_FREE:
        add("scoring.content_free", f"has {len(scoring.content_free)} entries; the limit is {MAX_CONTENT_FREE}")
    if scoring.premise is not None and scoring.calibration is not Calibration.PMI:
        add("scoring.premise", f'has no effect beside the calibration "{scoring.calibration}"; say "pmi"')
    if scoring.normalize == "unconditional" and not scoring.unconditional_prompt:
        add("scoring.unconditional_prompt", "is empty")
    if scoring.normalize == "unconditional" and scoring.calibration is Calibration.PMI:
        add("scoring.normalize", 'takes the same off twice beside the calibration "pmi"; say "sum"')


def _check_decoding(program: PromptProgram, add: Check) -> None:
    stops = program.decoding.stop or ()
    if len(stops) > MAX_STOPS:
        add("decoding.stop", f"has {len(stops)} entries; the limit is {MAX_STOPS}")
        return
    for number, one in enumerate(stops):
        if not 1 <= len(one) <= MAX_STOP_CHARACTERS:
            add(f"decoding.stop[{number}]", f"has {len(one)} characters; allowed are 1 to {MAX_STOP_CHARACTERS}")


def _check_documents(program: PromptProgram, field: str, add: Check, violations: Violations) -> None:
    if program.documents and program.sourcing is None:
        add("documents", "are not shown without `sourcing`; give it, be it empty: {}")
    check_documents(program.documents, violations, field=f"{field}.documents")


def _check_tests(program: PromptProgram, add: Check, violations: Violations) -> None:
    for number, one in enumerate(violations.until_full(program.tests)):
        if one.equals is None and one.contains is None and one.matches is None:
            add(f"tests[{number}]", "asks for nothing; give `equals`, `contains` or `matches`")
        if one.matches is not None and (problem := _pattern_problem(one.matches)):
            add(f"tests[{number}].matches", problem)


def _check_model(model: str, add: Check) -> None:
    if not 1 <= len(model) <= _MAX_MODEL_CHARACTERS:
        add("model", f"has {len(model)} characters; allowed are 1 to {_MAX_MODEL_CHARACTERS}")
    if is_prompt_reference(model):
        add("model", f"is {shown(model)}, a program; a program is answered by a base or an adapter")


def _pattern_problem(pattern: str) -> str:
    try:
        compiled(pattern)
    except ValueError as error:
        return str(error)
    return ""
