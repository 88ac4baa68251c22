"""Tasks from ``promptfooconfig.yaml``: prompts times tests, each answer checked by the test's assertions.

Which models answer is said by ``--model``; of providers their sampling is read. What would run code is refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from graft.training.errors import DataError
from graft.training.evaluation.importing.assertions import Assertions
from graft.training.evaluation.importing.code import NEVER, code_file, code_in
from graft.training.evaluation.importing.fields import answer_fields
from graft.training.evaluation.importing.promptfoo_prompts import Prompts, PromptTemplate
from graft.training.evaluation.tasks import located
from graft.training.evaluation.tasks.located import Located, Place
from graft.training.evaluation.tasks.task import Kind, Metric, Question, Task
from graft.training.evaluation.tasks.template import BadTemplate, parse

READ = {"description", "prompts", "providers", "targets", "tests", "defaultTest", "evaluateOptions"}
WITHOUT_EFFECT = {"tags", "metadata", "outputPath", "sharing", "writeLatestResults", "commandLineOptions", "env"}
OF_TESTS = {"description", "vars", "assert", "threshold", "metadata", "options"}
OPTIONS_WITHOUT_EFFECT = {"provider", "disableVarExpansion", "disableConversationVars", "storeOutputAs"}
EVALUATE_OPTIONS = {"maxConcurrency", "delay", "showProgressBar", "cache", "timeoutMs", "repeat", "maxEvalTimeMs"}
MAX_QUESTIONS = 100_000


def is_one(value: Any) -> bool:
    """Whether a file's values are a promptfoo configuration."""
    return isinstance(value, dict) and "prompts" in value and "task" not in value


def read(path: Path) -> Task:
    """The task. Raises ``DataError`` with everything that is not supported, by line."""
    file = located.read(path, only_true_and_false=True)
    if not isinstance(file.value, dict):
        raise DataError(f"{path}: a promptfoo configuration is a mapping; this is none.")
    file.unknown((), file.value, READ | WITHOUT_EFFECT)
    _evaluate_options(file)
    max_tokens, temperature = _providers(file)
    prompts = Prompts(file).read()
    questions = list(itertools.islice(_Tests(file).questions(prompts), MAX_QUESTIONS + 1))
    file.check()
    if len(questions) > MAX_QUESTIONS:
        raise DataError(f"{path} makes more than {MAX_QUESTIONS} questions of prompts, tests and lists of variables.")
    if not questions:
        raise DataError(f"{path} has no tests.")
    return Task(
        name=path.name.split(".")[0],
        kind=Kind.GENERATE,
        questions=tuple(questions),
        metrics=(Metric(name="pass"), Metric(name="score")),
        max_tokens=max_tokens,
        temperature=temperature,
        answer_fields=_answer_fields(file, prompts),
    )


def _answer_fields(file: Located, prompts: list[PromptTemplate]) -> tuple[str, ...]:
    """The variables that assertions read and no prompt shows."""
    tests = file.value.get("tests") or []
    graded = [one.get("assert") for one in [file.value.get("defaultTest"), *tests] if isinstance(one, dict)]
    asked = [[one.source for one in prompt.templates] for prompt in prompts]
    return answer_fields(asked, graded)


def _evaluate_options(file: Located) -> None:
    options = file.value.get("evaluateOptions") or {}
    if isinstance(options, dict):
        file.unknown(("evaluateOptions",), options, EVALUATE_OPTIONS)
        if options.get("repeat", 1) != 1:
            file.refuse(("evaluateOptions", "repeat"), "`repeat` is not supported; give other --seed instead.")


def _providers(file: Located) -> tuple[int, float]:
    """Sampling of the first provider that has any. Notes those that run code."""
    max_tokens, temperature = 256, 0.0
    for key in ("providers", "targets"):
        given = file.value.get(key)
        listed = given if isinstance(given, list) else [given] if given is not None else []
        for index, one in enumerate(listed):
            place: Place = (key, index) if isinstance(given, list) else (key,)
            name = one.get("id", next(iter(one), "")) if isinstance(one, dict) else one
            if isinstance(name, str) and (code := code_in(name) or code_file(name)):
                file.refuse(place, f"provider `{code}` {NEVER}")
            config = one.get("config") if isinstance(one, dict) else None
            if isinstance(config, dict) and index == 0:
                max_tokens = _number(config.get("max_tokens"), max_tokens, int)
                temperature = _number(config.get("temperature"), temperature, float)
    return max_tokens, temperature


def _number(given: Any, default: Any, kind: type) -> Any:
    is_number = isinstance(given, int | float) and not isinstance(given, bool) and given >= 0
    return kind(given) if is_number and (given or kind is float) else default


class _Tests:
    """Tests with what ``defaultTest`` adds to each."""

    def __init__(self, file: Located) -> None:
        self._file = file
        self._assertions = Assertions(file)
        self._default = file.value.get("defaultTest") or {}
        if not isinstance(self._default, dict):
            file.refuse(("defaultTest",), "`defaultTest` must be written out in this file.")
            self._default = {}
        self._check_test(("defaultTest",), self._default)

    def questions(self, prompts: list[Any]) -> Iterator[Question]:
        tests = self._file.value.get("tests")
        if isinstance(tests, str):
            code = code_in(tests)
            said = f"`{code}` {NEVER}" if code else "`tests` must be written out in this file."
            self._file.refuse(("tests",), said)
            return
        if tests is None:
            tests = [{}]
        if not isinstance(tests, list):
            self._file.refuse(("tests",), "`tests` must be a list.")
            return
        for number, test in enumerate(tests):
            place: Place = ("tests", number)
            if not isinstance(test, dict):
                said = (
                    f"`{code}` {NEVER}" if isinstance(test, str) and (code := code_in(test)) else "must be a mapping."
                )
                self._file.refuse(place, f"test {number + 1}: {said}")
                continue
            self._check_test(place, test)
            yield from self._of_test(prompts, place, number, test)

    def _check_test(self, place: Place, test: Mapping[str, Any]) -> None:
        self._file.unknown(place, test, OF_TESTS)
        options = test.get("options") or {}
        if isinstance(options, dict):
            self._file.unknown((*place, "options"), options, OPTIONS_WITHOUT_EFFECT)

    def _of_test(self, prompts: list[Any], place: Place, number: int, test: Mapping[str, Any]) -> Iterator[Question]:
        threshold = test.get("threshold", self._default.get("threshold"))
        if threshold is not None and (isinstance(threshold, bool) or not isinstance(threshold, int | float)):
            self._file.refuse((*place, "threshold"), "`threshold` must be a number.")
            threshold = None
        for variables in self._variables(place, test):
            checks = [
                *self._assertions.read(("defaultTest", "assert"), self._default.get("assert"), variables),
                *self._assertions.read((*place, "assert"), test.get("assert"), variables),
            ]
            for index, prompt in enumerate(prompts):
                try:
                    written = prompt.fill(variables)
                except BadTemplate as problem:
                    self._file.refuse(place, f"test {number + 1}, prompt {index + 1}: {problem}")
                    continue
                told = str(test.get("description") or f"test {number + 1}")
                name = told if len(prompts) == 1 else f"{told}, prompt {index + 1}"
                yield Question(
                    prompt=written,
                    variables=variables,
                    checks=tuple(checks),
                    threshold=None if threshold is None else float(threshold),
                    name=name,
                )

    def _variables(self, place: Place, test: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The test's variables over the defaults; of lists every combination."""
        found: dict[str, Any] = {}
        for where, given in (
            (("defaultTest", "vars"), self._default.get("vars")),
            ((*place, "vars"), test.get("vars")),
        ):
            if given is None:
                continue
            if not isinstance(given, dict):
                self._file.refuse(where, "`vars` must be written out in this file.")
                continue
            for key, value in given.items():
                if isinstance(value, str) and (code := code_in(value)):
                    self._file.refuse((*where, key), f"variable `{key}`: `{code}` {NEVER}")
                elif isinstance(value, str) and value.startswith("file://"):
                    self._file.refuse((*where, key), f"variable `{key}`: write the text of `{value}` here.")
                else:
                    found[key] = value
        is_expanded = not (test.get("options") or self._default.get("options") or {}).get("disableVarExpansion", False)
        several = {key: value for key, value in found.items() if isinstance(value, list) and is_expanded}
        for combination in itertools.product(*several.values()):
            yield self._nested({**found, **dict(zip(several, combination, strict=True))}, place)

    def _nested(self, variables: dict[str, Any], place: Place) -> dict[str, Any]:
        """Variables may hold others."""
        filled = dict(variables)
        for key, value in variables.items():
            if isinstance(value, str) and "{{" in value:
                try:
                    filled[key] = parse(value).fill(variables)
                except BadTemplate as problem:
                    self._file.refuse(place, f"variable `{key}`: {problem}")
        return filled
