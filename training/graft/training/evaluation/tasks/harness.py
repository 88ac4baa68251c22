"""Tasks written for lm-evaluation-harness (version 0.4.13) whose data lie in local files and that run no code.

Everything else that such a file may say is refused by name with its line.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graft.training.errors import DataError
from graft.training.evaluation.tasks import located
from graft.training.evaluation.tasks.harness_documents import Documents, Row
from graft.training.evaluation.tasks.harness_marks import METRICS, metrics_of, readings_of
from graft.training.evaluation.tasks.located import Located, Place
from graft.training.evaluation.tasks.rows import read_objects
from graft.training.evaluation.tasks.task import Kind, Metric, Task

WORKED = "chain_of_thought"
"""Below ``metadata``, which the harness leaves to its users: the keys that change where steps are asked for."""
READ = {
    "task", "dataset_path", "dataset_kwargs", "training_split", "validation_split", "test_split", "fewshot_split",
    "doc_to_text", "doc_to_target", "doc_to_choice", "description", "target_delimiter", "fewshot_delimiter",
    "fewshot_config", "num_fewshot", "metric_list", "output_type", "generation_kwargs", "repeats", "filter_list",
    "metadata",
}  # fmt: skip
WITHOUT_EFFECT = {"task_alias", "tag", "group", "should_decontaminate", "doc_to_decontamination_query"}
GENERATION = {"until", "max_gen_toks", "max_tokens", "temperature", "do_sample"}
SAMPLERS = ("default", "first_n")
MAX_TOKENS = 256
"""The harness' own default."""


def read(path: Path) -> Task:
    """The task in a file. Raises ``DataError`` with everything in it that is not supported, by line."""
    file = located.read(path)
    if not isinstance(file.value, dict):
        raise DataError(f"{path}: a task file is a mapping; this is none.")
    file.unknown((), file.value, READ | WITHOUT_EFFECT)
    file.check()
    config = Config(file, file.value, {})
    data = _data(config)
    file.check()
    task = _task(config, data)
    metadata = file.value.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get(WORKED), dict):
        worked = metadata[WORKED]
        file.unknown(("metadata", WORKED), worked, READ - {"metadata", "dataset_path", "dataset_kwargs"})
        file.check()
        places: dict[str, Place] = {key: ("metadata", WORKED, key) for key in worked}
        with_steps = _task(Config(file, {**file.value, **worked}, places), data)
        if (with_steps.kind, _figures(with_steps)) != (task.kind, _figures(task)):
            file.refuse(("metadata", WORKED), "its kind, metrics and names of filters must be those of the task.")
        fields = tuple(sorted({*task.answer_fields, *with_steps.answer_fields}))
        task = Task(**{**vars(task), "worked": with_steps, "answer_fields": fields})
    file.check()
    return task


def _figures(task: Task) -> tuple[list[str], list[str]]:
    return [metric.name for metric in task.metrics], [reading.name for reading in task.readings]


class Config:
    """A task's settings, each with its place in the file."""

    def __init__(self, file: Located, values: Mapping[str, Any], places: Mapping[str, Place]) -> None:
        self.file, self.values, self._places = file, values, places

    def place(self, key: str) -> Place:
        return self._places.get(key, (key,) if key in self.file.value else ())

    def refuse(self, key: str, problem: str) -> None:
        self.file.refuse(self.place(key), problem)

    def text(self, key: str, default: str) -> str:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            self.refuse(key, f"`{key}` must be a text.")
            return default
        return value

    def mapping(self, key: str) -> Mapping[str, Any]:
        value = self.values.get(key) or {}
        if not isinstance(value, dict):
            self.refuse(key, f"`{key}` must be a mapping.")
            return {}
        return value


def _task(config: Config, data: Mapping[str, list[Row]]) -> Task:
    kind = _kind(config)
    asked, shown = _splits(config, data)
    separator = config.text("fewshot_delimiter", "\n\n")
    max_tokens, stop, temperature = _generation(config, separator)
    documents = Documents(config.file, config.values, config.place, kind)
    metrics = metrics_of(config.file, config.values.get("metric_list"), config.place("metric_list"), kind)
    readings = readings_of(config.file, config.values.get("filter_list"), config.place("filter_list"))
    description = _description(config)
    config.file.check()
    questions = documents.questions(data[asked])
    return Task(
        name=config.text("task", config.file.path.stem),
        kind=kind,
        questions=questions,
        metrics=metrics or tuple(Metric(name=name) for name in METRICS[kind][:2]),
        examples=documents.examples(data[shown]) if _may_show(config) else (),
        examples_are_questions=shown == asked,
        sampler=_sampler(config),
        description=description,
        shots=_count(config, "num_fewshot", 0),
        separator=separator,
        target_delimiter=config.text("target_delimiter", " "),
        max_tokens=max_tokens,
        stop=stop,
        temperature=temperature,
        readings=readings,
        version=str(config.mapping("metadata").get("version", "1")),
        answer_fields=tuple(sorted(documents.answer_fields(data[asked]))),
    )


def _splits(config: Config, data: Mapping[str, list[Row]]) -> tuple[str, str]:
    """The split that is asked and the one that is shown. Notes those that are not there."""
    asked = config.values.get("test_split") or config.values.get("validation_split")
    shown = next(
        (split for key in ("fewshot_split", "training_split", "validation_split") if (split := config.values.get(key))),
        asked,
    )
    for split in (asked, shown):
        if split not in data:
            config.refuse("test_split", f"there is no split {split!r} in data_files; there are {', '.join(data)}.")
    return str(asked), str(shown)


def _description(config: Config) -> str:
    description = config.text("description", "")
    if "{{" in description or "{%" in description:
        config.refuse("description", "a template is not supported in `description`.")
    return description


def _kind(config: Config) -> Kind:
    given = config.text("output_type", Kind.GENERATE)
    if given not in list(Kind):
        config.refuse("output_type", f"`output_type: {given}` is not supported; use {', '.join(Kind)}.")
        config.file.check()
    return Kind(given)


def _may_show(config: Config) -> bool:
    return config.values.get("doc_to_target") is not None


def _count(config: Config, key: str, default: int) -> int:
    value = config.values.get(key)
    if value is None:
        return default
    if type(value) is not int or value < 0:
        config.refuse(key, f"`{key}` must be a number from 0 on.")
        config.file.check()
    return int(value)


def _sampler(config: Config) -> str:
    given = config.mapping("fewshot_config")
    config.file.unknown(config.place("fewshot_config"), given, {"sampler"})
    sampler = str(given.get("sampler", "default"))
    if sampler not in SAMPLERS:
        config.refuse("fewshot_config", f"`sampler: {sampler}` is not supported; use {' or '.join(SAMPLERS)}.")
    if config.values.get("repeats", 1) != 1:
        config.refuse("repeats", "`repeats` is not supported; ask for several paths by --votes.")
    config.file.check()
    return sampler


def _generation(config: Config, separator: str) -> tuple[int, tuple[str, ...], float]:
    given = config.mapping("generation_kwargs")
    config.file.unknown(config.place("generation_kwargs"), given, GENERATION)
    until = given.get("until", [separator])
    stops = [until] if isinstance(until, str) else until
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        config.refuse("generation_kwargs", "`until` must be a text or a list of texts.")
        stops = []
    room = given.get("max_gen_toks", given.get("max_tokens", MAX_TOKENS))
    temperature = given.get("temperature", 0.0) if given.get("do_sample", True) else 0.0
    if type(room) is not int or room < 1 or type(temperature) not in (int, float) or temperature < 0:
        config.refuse("generation_kwargs", "`max_gen_toks` must be a number from 1 on, `temperature` one from 0 on.")
        return MAX_TOKENS, (), 0.0
    return room, tuple(stop for stop in stops if stop), float(temperature)


def _data(config: Config) -> dict[str, list[Row]]:
    """The rows of each split. Notes what keeps them from being read."""
    path = config.values.get("dataset_path")
    if path != "json":
        config.refuse("dataset_path", f"`dataset_path: {path}` is not supported; data are local files: `json`.")
        return {}
    given = config.mapping("dataset_kwargs")
    place = config.place("dataset_kwargs")
    config.file.unknown(place, given, {"data_files", "field"})
    files = given.get("data_files")
    splits = files if isinstance(files, dict) else {"train": files}
    found: dict[str, list[Row]] = {}
    for split, named in splits.items():
        names = [named] if isinstance(named, str) else named
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            config.file.refuse(place, "`data_files` names a file, a list of files, or those of each split.")
            continue
        rows: list[Row] = []
        for name in names:
            rows += read_objects(_find(config, place, name), given.get("field"))
        found[str(split)] = rows
    return found


def _find(config: Config, place: Place, name: str) -> Path:
    """Beside the task's file, or from where the command runs, as the harness looks for it."""
    if "://" in name:
        config.file.refuse(place, f"`{name}` is not local; data are local files.")
        config.file.check()
    beside = config.file.path.parent / name
    return beside if beside.exists() else Path(name)
