"""Asking models every question of a task in each setting, and marking the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from graft.training.errors import ConfigurationError, DataError
from graft.training.evaluation.asking.model import Asked, Decoding, Model, Refused, Unanswered
from graft.training.evaluation.asking.programs import ProgramModel
from graft.training.evaluation.asking.side_by_side import NUM_STREAMS, each
from graft.training.evaluation.checks.check import JUDGED
from graft.training.evaluation.running import marking
from graft.training.evaluation.running.checking import check_record
from graft.training.evaluation.running.outcome import WORKED, Outcome, Record, Setting, keys
from graft.training.evaluation.running.paths import said_paths
from graft.training.evaluation.tasks import shots as examples
from graft.training.evaluation.tasks.answers import withheld
from graft.training.evaluation.tasks.task import Kind, Question, Reading, Step, Task


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How tasks are asked."""

    shots: tuple[int, ...] = ()
    """Default: each task's own number."""
    reasoning: tuple[str, ...] = ("direct",)
    votes: tuple[int, ...] = (1,)
    temperature: float = 0.7
    """Where paths vote; one path alone is drawn as the task says."""
    limit: int | None = None
    max_tokens: int | None = None
    seed: int = 0
    as_chat: bool = False
    num_streams: int = NUM_STREAMS


def evaluate(
    models: Sequence[Model], tasks: Sequence[Task], plan: Plan, *, judge: Model | None = None
) -> list[Outcome]:
    """Every model on every task in every setting, in this order.

    Raises:
        ConfigurationError: a setting does not fit a task; nothing was asked then.
        DataError: the server took no question at all.
        GraftClientError: the server failed.
    """
    tasks = [_limited(withheld(task), plan.limit) for task in tasks]
    for task in tasks:
        check(task, plan, models, judge)
    outcomes = [
        outcome
        for task in tasks
        for model in models
        for shots in plan.shots or (task.shots,)
        for reasoning in plan.reasoning
        for outcome in _asked(model, task, shots, reasoning, plan, judge)
    ]
    if all(outcome.num_refused == len(outcome.records) for outcome in outcomes):
        first = outcomes[0]
        raise DataError(
            f"none of {first.task.name}'s questions could be asked of {first.model}: {first.records[0].problem}"
        )
    return outcomes


def check(task: Task, plan: Plan, models: Sequence[Model], judge: Model | None) -> None:
    """Raises ``ConfigurationError`` where a task cannot be asked so."""
    for shots in plan.shots or (task.shots,):
        examples.check(task, shots)
    if task.kind is not Kind.GENERATE and (max(plan.votes) > 1 or WORKED in plan.reasoning):
        raise ConfigurationError(
            f"{task.name} is {task.kind}: its answers are scored, not said, so they neither reason nor vote."
        )
    programs = [model.name for model in models if model.name.startswith("prompt:")]
    if programs and (max(plan.votes) > 1 or WORKED in plan.reasoning or any(plan.shots)):
        raise ConfigurationError(
            f"{programs[0]} brings its own examples, reasoning and votes: leave out --shots, --reasoning and --votes."
        )
    if programs and task.kind is Kind.LIKELIHOOD:
        raise ConfigurationError(f"{task.name} is {task.kind}: a program says answers and scores no text.")
    if judge is not None and judge.name.startswith("prompt:"):
        raise ConfigurationError(
            f"--judge {judge.name} is a program: it writes its own prompt and is given no rubric. Name the base or an "
            "adapter."
        )
    for model in models:
        if isinstance(model, ProgramModel):
            _check_reads(model, task)
    judged = {check.kind for question in task.questions for check in question.checks} & JUDGED
    if judged and judge is None:
        raise ConfigurationError(f"{task.name} has {', '.join(sorted(judged))}: name the model that judges by --judge.")


def _check_reads(program: ProgramModel, task: Task) -> None:
    """Raises ``ConfigurationError`` where the program reads what the right answer is made from."""
    fields = {name: value for question in task.questions for name, value in question.variables.items()}
    read = program.reads({**fields, **dict.fromkeys(task.answer_fields, "0")})
    if answers := sorted(read.intersection(task.answer_fields)):
        told = ", ".join(f"`{name}`" for name in answers)
        raise ConfigurationError(
            f"{program.name} reads {told}, which holds the answer of {task.name}; it may read: "
            f"{', '.join(sorted(fields)) or 'nothing'}."
        )


def _limited(task: Task, limit: int | None) -> Task:
    if limit is None or limit >= len(task.questions):
        return task
    worked = _limited(task.worked, limit) if task.worked else None
    return replace(task, questions=task.questions[:limit], worked=worked)


def _asked(model: Model, task: Task, shots: int, reasoning: str, plan: Plan, judge: Model | None) -> list[Outcome]:
    about = f"{model.name} · {task.name} · {Setting(shots=shots, reasoning=reasoning, votes=max(plan.votes))}"

    def ask(index: int) -> Mapping[int, Record]:
        try:
            return _question(model, task, index, shots, reasoning, plan, judge)
        except Refused as problem:
            return dict.fromkeys(plan.votes, _wrong(task, index, problem=str(problem)))
        except Unanswered as reason:
            return dict.fromkeys(plan.votes, _wrong(task, index, reason=str(reason)))

    found = each(ask, range(len(task.questions)), num_streams=plan.num_streams, about=about)
    return [
        Outcome(
            model=model.name,
            task=task,
            setting=Setting(shots=shots, reasoning=reasoning, votes=votes),
            records=tuple(records[votes] for records in found),
            seed=plan.seed,
        )
        for votes in plan.votes
    ]


def _wrong(task: Task, index: int, *, problem: str = "", reason: str = "") -> Record:
    """A question that could not be asked, or brought no answer, counts as answered wrong. One of likelihood alone has
    no mark to count.
    """
    if task.kind is Kind.LIKELIHOOD:
        raise DataError(f"{task.name}, question {index + 1} could not be scored: {problem}")
    right = task.questions[index].targets
    return Record(index=index, right=right, marks=dict.fromkeys(keys(task), 0.0), problem=problem, reason=reason)


def _question(
    model: Model, task: Task, index: int, shots: int, reasoning: str, plan: Plan, judge: Model | None
) -> Mapping[int, Record]:
    """The question's record for each number of votes."""
    question = task.questions[index]
    if task.kind is Kind.GENERATE or model.name.startswith("prompt:"):
        said, read_as = said_paths(
            model,
            task,
            index,
            shots=shots,
            reasoning=reasoning,
            decoding=_decoding(task, plan),
            seed=plan.seed,
            as_chat=plan.as_chat,
        )
        return {votes: _marked(read_as, question, index, said[:votes], judge) for votes in plan.votes}
    asked = Asked(
        prompt=examples.written(task, index, shots=shots, seed=plan.seed, as_chat=plan.as_chat),
        variables=question.variables,
    )
    record = _scored(model, task, question, index, asked)
    return dict.fromkeys(plan.votes, record)


def _decoding(task: Task, plan: Plan) -> Decoding:
    """One path is drawn as the task says; several are sampled."""
    votes = max(plan.votes)
    return Decoding(
        max_tokens=plan.max_tokens or task.max_tokens,
        stop=task.stop,
        temperature=plan.temperature if votes > 1 else task.temperature,
        seed=plan.seed,
        num_paths=votes,
    )


def _marked(task: Task, question: Question, index: int, said: tuple[str, ...], judge: Model | None) -> Record:
    if question.checks:
        return check_record(question, index, said[0], judge)
    marks: dict[str, float] = {}
    answers = []
    for reading in task.readings if task.kind is Kind.GENERATE else (CHOSEN,):
        answers.append(marking.voted([marking.answer_of(one, reading) for one in said]))
        marks |= marking.generated_marks(task, question, answers[-1], reading)
    return Record(index=index, said=said, answer=answers[0], right=question.targets, marks=marks)


def _scored(model: Model, task: Task, question: Question, index: int, asked: Asked) -> Record:
    if task.kind is Kind.LIKELIHOOD:
        (score,) = model.score(asked, question.targets[:1])
        said = question.targets[0] if score.is_greedy else ""
        marks = marking.likelihood_marks(task, score)
        return Record(index=index, answer=said, right=question.targets, marks=marks)
    endings = [f"{task.target_delimiter}{choice}" for choice in question.choices]
    scores = model.score(asked, endings)
    chosen, marks = marking.choice_marks(task, question, scores)
    return Record(index=index, answer=question.choices[chosen], right=question.targets, marks=marks)


CHOSEN = Reading(steps=(Step(function="strip"),))
"""A program names the choice."""
