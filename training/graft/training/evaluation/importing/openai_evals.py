"""Tasks from OpenAI's evals: an eval's ``data_source_config`` and ``testing_criteria``, with a run's ``data_source`` in
the same file or beside it. Which models answer and judge is said by ``--model`` and ``--judge``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graft.training.errors import ConfigurationError, DataError
from graft.training.evaluation.asking.model import Prompt, Turn
from graft.training.evaluation.checks.schema import broken, problem_of
from graft.training.evaluation.importing.fields import answer_fields_of_items
from graft.training.evaluation.importing.graders import Graders, messages_of
from graft.training.evaluation.tasks import located
from graft.training.evaluation.tasks.located import Located, Place
from graft.training.evaluation.tasks.rows import read_objects
from graft.training.evaluation.tasks.task import Kind, Metric, Question, Task
from graft.training.evaluation.tasks.template import BadTemplate, parse

OF_EVAL = {"data_source_config", "testing_criteria", "name", "metadata", "id", "object", "created_at", "data_source"}
OF_RUN = {"name", "metadata", "data_source", "eval_id", "id", "object", "created_at", "model"}
OF_SOURCE = {"type", "source", "input_messages", "model", "sampling_params"}
SAMPLING = {"temperature", "max_completion_tokens", "max_completions_tokens", "max_tokens", "seed", "top_p"}


def is_one(value: Any) -> bool:
    """Whether a file's values are an eval."""
    return isinstance(value, dict) and "testing_criteria" in value


def read(path: Path, *, run: Path | None = None, data: Path | None = None) -> Task:
    """The task.

    ``run`` is a file with a run's ``data_source``; ``data`` a file of rows ``{"item": {…}}`` or of items alone, in
    place of the run's own.

    Raises:
        DataError: with everything that is not supported, by line.
        ConfigurationError: there are no prompts or no items.
    """
    file = located.read(path, only_true_and_false=True)
    if not is_one(file.value):
        raise DataError(f"{path} has no `testing_criteria`; an eval is a mapping with it.")
    file.unknown((), file.value, OF_EVAL)
    source_file, source = _source(file, run)
    items = _items(source_file, source, data)
    _check_items(file, items)
    graders = Graders(file).read()
    questions = [_question(source_file, source, graders, item, number) for number, item in enumerate(items, start=1)]
    source_file.check()
    file.check()
    max_tokens, temperature = _sampling(source_file, source)
    source_file.check()
    return Task(
        name=str(file.value.get("name") or path.name.split(".")[0]),
        kind=Kind.GENERATE,
        questions=tuple(question for question in questions if question is not None),
        metrics=(Metric(name="pass"), Metric(name="score")),
        max_tokens=max_tokens,
        temperature=temperature,
        answer_fields=answer_fields_of_items(source["input_messages"], file.value["testing_criteria"]),
    )


def _source(file: Located, run: Path | None) -> tuple[Located, Mapping[str, Any]]:
    """The file that holds a run's data source, and the source."""
    source_file = file if run is None else located.read(run, only_true_and_false=True)
    if run is not None and isinstance(source_file.value, dict):
        source_file.unknown((), source_file.value, OF_RUN)
    source = source_file.value.get("data_source") if isinstance(source_file.value, dict) else None
    if not isinstance(source, dict) or "input_messages" not in source:
        raise ConfigurationError(
            f"{file.path} says how answers are graded, and not what is asked: give the run's file, whose "
            "`data_source` has `input_messages`, by --run."
        )
    source_file.unknown(("data_source",), source, OF_SOURCE)
    return source_file, source


def _items(file: Located, source: Mapping[str, Any], data: Path | None) -> list[dict[str, Any]]:
    if data is not None:
        rows = read_objects(data)
    else:
        content = source.get("source")
        place: Place = ("data_source", "source")
        if not isinstance(content, dict) or content.get("type") != "file_content":
            named = content.get("type") if isinstance(content, dict) else content
            file.refuse(place, f"source `{named}` is not supported; give its rows by --data.")
            file.check()
        rows = content.get("content") if isinstance(content, dict) else None  # type: ignore[assignment]
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            file.refuse(place, "`content` must be a list of objects with `item`.")
            file.check()
    if not rows:
        raise ConfigurationError(f"{file.path} has no items: give their file by --data.")
    return [row["item"] if isinstance(row.get("item"), dict) else row for row in rows]


def _check_items(file: Located, items: Sequence[Mapping[str, Any]]) -> None:
    """Every item after the eval's own schema."""
    config = file.value.get("data_source_config")
    place: Place = ("data_source_config",)
    if not isinstance(config, dict) or config.get("type") != "custom":
        named = config.get("type") if isinstance(config, dict) else config
        file.refuse(place, f"`data_source_config` of type `{named}` is not supported; use `custom`.")
        file.check()
        return
    file.unknown(place, config, {"type", "item_schema", "include_sample_schema", "schema"})
    schema = config.get("item_schema", {})
    if problem := broken(schema):
        file.refuse((*place, "item_schema"), problem)
        file.check()
    for number, item in enumerate(items, start=1):
        if problem := problem_of(item, schema):
            file.refuse((*place, "item_schema"), f"item {number} does not follow the schema: {problem}.")
    file.check()


def _question(
    file: Located, source: Mapping[str, Any], graders: Any, item: Mapping[str, Any], number: int
) -> Question | None:
    place: Place = ("data_source", "input_messages")
    try:
        prompt = _prompt(file, source, item)
    except BadTemplate as problem:
        file.refuse(place, f"item {number}: {problem}")
        return None
    return Question(prompt=prompt, variables=item, checks=graders.of(item, number), name=f"item {number}")


def _prompt(file: Located, source: Mapping[str, Any], item: Mapping[str, Any]) -> Prompt:
    given = source["input_messages"]
    place: Place = ("data_source", "input_messages")
    values = {"item": item}
    if not isinstance(given, dict):
        raise BadTemplate("`input_messages` must be a mapping.")
    if given.get("type") == "item_reference":
        messages = parse("{{" + str(given.get("item_reference", "")) + "}}").value(values)
        return tuple(Turn(role=role, content=text) for role, text in messages_of(file, place, messages))
    if given.get("type") != "template":
        raise BadTemplate(f"`input_messages` of type `{given.get('type')}` is not supported; use `template`.")
    messages = messages_of(file, (*place, "template"), given.get("template"))
    return tuple(Turn(role=role, content=parse(text).fill(values)) for role, text in messages)


def _sampling(file: Located, source: Mapping[str, Any]) -> tuple[int, float]:
    given = source.get("sampling_params") or {}
    place: Place = ("data_source", "sampling_params")
    if not isinstance(given, dict):
        file.refuse(place, "`sampling_params` must be a mapping.")
        return 256, 0.0
    file.unknown(place, given, SAMPLING)
    room = next((given[key] for key in SAMPLING if "tokens" in key and isinstance(given.get(key), int)), 256)
    if given.get("top_p") not in (None, 1):
        file.refuse((*place, "top_p"), "`top_p` other than 1 is not supported.")
    temperature = given.get("temperature")
    is_number = isinstance(temperature, int | float) and not isinstance(temperature, bool) and temperature >= 0
    return room, float(temperature) if is_number and temperature is not None else 0.0
