"""From a request's JSON to a grader, or all that is wrong with it at once, each with its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from graft.server.grading.fields import Fields, as_object, is_number
from graft.server.grading.formula import FUNCTIONS, NAME, BadFormula, Formula, read_formula
from graft.server.grading.graders import (
    Grader,
    JudgeSampling,
    LabelModel,
    Metric,
    Multi,
    Operation,
    PythonSource,
    RewardModel,
    ScoreModel,
    Single,
    StringCheck,
    TextSimilarity,
)
from graft.server.grading.messages import read_messages
from graft.server.grading.similarity.metrics import UNAVAILABLE
from graft.server.runtime.violations import Violations, shown

MAX_SOURCE_BYTES = 256 << 10
MAX_GRADERS = 64
MAX_LABELS = 256
MAX_LABEL_CHARACTERS = 256
MAX_SCORE = 1e15


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """What graders may ask of this server. `no_python`: why scripts are not run; None where they are."""

    no_python: str | None


def read_grader(value: object, allowed: Allowed, violations: Violations, *, field: str = "grader") -> Grader | None:
    """None where something was added to the violations."""
    before = violations.num_found
    reader = _Reader(allowed, violations)
    grader = reader.grader(value, field)
    return grader if violations.num_found == before else None


class _Reader:
    """Reads on where something is wrong, so that all of it is told."""

    def __init__(self, allowed: Allowed, violations: Violations) -> None:
        self._allowed = allowed
        self._violations = violations
        self._singles: dict[str, Callable[[Fields], Single]] = {
            "string_check": self._string_check,
            "text_similarity": self._text_similarity,
            "score_model": self._score_model,
            "label_model": self._label_model,
            "python": self._python,
            "reward_model": self._reward_model,
        }

    def grader(self, value: object, field: str) -> Grader | None:
        fields = self._fields(value, field, (*self._singles, "multi"))
        if fields is None:
            return None
        return self._multi(fields) if fields.kind == "multi" else self._read(fields)

    def _fields(self, value: object, field: str, kinds: tuple[str, ...]) -> Fields | None:
        """What it says, where its type is a known one."""
        said = as_object(value, field, self._violations)
        if said is None:
            return None
        fields = Fields(said, field, self._violations)
        fields.kind = fields.choice("type", kinds)
        return fields if fields.kind else None

    def _read(self, fields: Fields) -> Single:
        grader = self._singles[fields.kind](fields)
        fields.no_others()
        return grader

    def _string_check(self, fields: Fields) -> StringCheck:
        operation: Any = fields.choice("operation", get_args(Operation))
        return StringCheck(
            name=fields.name(),
            input=fields.template("input"),
            reference=fields.template("reference"),
            operation=operation,
        )

    def _text_similarity(self, fields: Fields) -> TextSimilarity:
        metric: Any = fields.choice("evaluation_metric", get_args(Metric))
        if metric in UNAVAILABLE:
            fields.refuse("evaluation_metric", UNAVAILABLE[metric])
        return TextSimilarity(
            name=fields.name(), input=fields.template("input"), reference=fields.template("reference"), metric=metric
        )

    def _score_model(self, fields: Fields) -> ScoreModel:
        low, high = self._range(fields)
        return ScoreModel(
            name=fields.name(),
            model=fields.text("model"),
            input=read_messages(fields, "input"),
            low=low,
            high=high,
            sampling=self._sampling(fields),
        )

    def _range(self, fields: Fields) -> tuple[float, float]:
        said = fields.optional("range")
        if said is None:
            return 0.0, 1.0
        match said:
            case [low, high] if is_number(low) and is_number(high):
                if -MAX_SCORE <= low < high <= MAX_SCORE:
                    return float(low), float(high)
                problem = f"is [{shown(low)}, {shown(high)}]: the first number is the smaller one, both within ±"
                fields.refuse("range", f"{problem}{MAX_SCORE:g}")
            case _:
                fields.refuse("range", f"is {shown(said)}: give two numbers, such as [0, 1]")
        return 0.0, 1.0

    def _sampling(self, fields: Fields) -> JudgeSampling:
        said = fields.optional("sampling_params")
        inner = None if said is None else as_object(said, fields.at("sampling_params"), self._violations)
        if inner is None:
            return JudgeSampling()
        params = Fields(inner, fields.at("sampling_params"), self._violations)
        sampling = JudgeSampling(
            max_tokens=params.integer("max_completions_tokens", 1, 1_000_000),
            seed=params.integer("seed", -(2**63), 2**63 - 1),
            temperature=params.number("temperature", 0, 2),
            top_p=params.number("top_p", 0, 1),
        )
        effort = params.optional("reasoning_effort")
        if effort not in (None, "none"):
            params.refuse("reasoning_effort", f"{shown(effort)} has no effect on a grader: say none, or leave it out")
        params.no_others()
        return sampling

    def _label_model(self, fields: Fields) -> LabelModel:
        labels = fields.texts("labels", MAX_LABELS, max_characters=MAX_LABEL_CHARACTERS)
        passing = fields.texts("passing_labels", MAX_LABELS, max_characters=MAX_LABEL_CHARACTERS)
        for index, label in enumerate(labels):
            if label in labels[:index]:
                fields.refuse(f"labels[{index}]", f"{shown(label)} is there already: name each label once")
        for index, label in enumerate(passing):
            if label not in labels:
                fields.refuse(f"passing_labels[{index}]", f"{shown(label)} is none of the labels")
        return LabelModel(
            name=fields.name(),
            model=fields.text("model"),
            input=read_messages(fields, "input"),
            labels=tuple(labels),
            passing_labels=frozenset(passing),
        )

    def _python(self, fields: Fields) -> PythonSource:
        source = fields.text("source", max_characters=MAX_SOURCE_BYTES)
        if len(source.encode(errors="replace")) > MAX_SOURCE_BYTES:
            fields.refuse("source", f"has {len(source.encode())} bytes; the limit is {MAX_SOURCE_BYTES}")
        image = fields.optional("image_tag")
        if image is not None:
            fields.refuse("image_tag", f"is {shown(image)}: scripts here have Python's standard library; leave it out")
        if self._allowed.no_python is not None:
            fields.refuse("type", f"python graders are not run here: {self._allowed.no_python}")
        return PythonSource(name=fields.name(), source=source)

    def _reward_model(self, fields: Fields) -> RewardModel:
        return RewardModel(name=fields.name(), model=fields.text("model"))

    def _multi(self, fields: Fields) -> Multi:
        graders = self._graders(fields)
        formula = self._formula(fields, graders)
        name = fields.name()
        fields.no_others()
        return Multi(name=name, graders={key: one for key, one in graders.items() if one is not None}, formula=formula)

    def _graders(self, fields: Fields) -> dict[str, Single | None]:
        """By name, as the guide has them; or one alone, as openai-python's types have it, by its own."""
        said = as_object(fields.required("graders"), fields.at("graders"), self._violations)
        if said is None:
            return {}
        if isinstance(said.get("type"), str):
            alone = self._part(said, fields.at("graders"))
            return {} if alone is None else {alone.name: alone}
        if not 1 <= len(said) <= MAX_GRADERS:
            fields.refuse("graders", f"has {len(said)} graders: between 1 and {MAX_GRADERS} are combined")
        graders: dict[str, Single | None] = {}
        for key, one in self._violations.until_full(list(said.items())[:MAX_GRADERS]):
            if not NAME.fullmatch(key) or key in FUNCTIONS:
                fields.refuse(f"graders.{key[:64]}", "is no name that a formula reads: letters, digits and _")
            graders[key] = self._part(one, fields.at(f"graders.{key[:64]}"))
        return graders

    def _part(self, value: object, field: str) -> Single | None:
        fields = self._fields(value, field, tuple(self._singles))
        return None if fields is None else self._read(fields)

    def _formula(self, fields: Fields, graders: Mapping[str, object]) -> Formula:
        text = fields.text("calculate_output")
        nothing = Formula("", frozenset(), lambda values: 0.0)
        if not text:
            return nothing
        try:
            formula = read_formula(text)
        except BadFormula as error:
            fields.refuse("calculate_output", str(error))
            return nothing
        for name in sorted(formula.names - graders.keys()):
            fields.refuse("calculate_output", f"{shown(name)} is no grader's name: there are {', '.join(graders)}")
        return formula
