"""A file that names several fine-tunings of one base: runs, each with what is its own, and a grid of settings."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from graft.adapters.errors import InvalidReference
from graft.adapters.names import check_adapter_name
from graft.training.errors import ConfigurationError
from graft.training.finetune.settings import FinetuneSettings
from graft.training.job.sources import Sources
from graft.training.settings.settings import read_settings

KEYS = ("data", "settings", "grid", "runs")
_OF_RUNS = ("name", "data", "alias")
MAX_RUNS = 1000
_SHORT = {
    "learning_rate": "lr",
    "num_train_epochs": "epochs",
    "max_steps": "steps",
    "per_device_train_batch_size": "rows",
    "gradient_accumulation_steps": "batches",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "warmup_ratio": "warmup",
    "lr_scheduler_type": "",
    "method": "",
    "data": "",
}
"""In names of runs; no word where the value says it."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One of the fine-tunings."""

    name: str
    """Of the adapter, and of the job's folder."""
    data: Path | Sources
    settings: FinetuneSettings
    varied: Mapping[str, Any]
    """What it does not have in common with all others."""
    alias: str | None = None


def read_grid(path: Path, *, name: str, data: Path | Sources | None, given: Mapping[str, Any]) -> list[Wanted]:
    """The fine-tunings of a YAML, JSON or TOML file: every run with every combination of the grid.

    ``given`` are the settings of flags and ``--config``, which hold for all; ``data`` are the rows of runs that name
    none. Paths in the file are relative to it. Raises ``ConfigurationError`` with all that is wrong, a line for each.
    """
    sheet = _Sheet(path=path, values=read_settings(path), given=given)
    sheet.check_keys()
    found = [sheet.wanted(name, data, run, point) for run in sheet.runs for point in sheet.points()]
    sheet.check_names([one for one in found if one is not None])
    if sheet.problems:
        raise ConfigurationError("\n".join([f"{path} cannot be used:", *dict.fromkeys(sheet.problems)]))
    return [one for one in found if one is not None]


class _Sheet:
    """The file's values, and what was found wrong with them."""

    def __init__(self, *, path: Path, values: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        self.path, self.values, self.given = path, values, given
        self.problems: list[str] = []
        self.shared = self._mapping("settings")
        self.axes = self._axes()
        self.runs = self._runs()

    def check_keys(self) -> None:
        self._check_known(self.values, KEYS, "")
        self._check_values(self.shared, "settings: ")
        self._check_values(self.given, "")
        for name in self.axes:
            for where, there in (("settings", self.shared), ("flags or --config", self.given)):
                if name in there:
                    self.problems.append(f"grid: {name} is said in {where}, too: say it once")
        num = len(self.runs) * len(list(self.points()))
        if num > MAX_RUNS:
            self.problems.append(f"it names {num:,} runs, more than {MAX_RUNS:,}: take fewer values")
        elif num < 2:
            self.problems.append("it names fewer than two runs: give a grid of values, or a list of runs")

    def points(self) -> Iterator[dict[str, Any]]:
        """Every combination of the grid's values."""
        for values in itertools.product(*self.axes.values()):
            yield dict(zip(self.axes, values, strict=True))

    def wanted(
        self, name: str, data: Path | Sources | None, run: Mapping[str, Any], point: Mapping[str, Any]
    ) -> Wanted | None:
        """The run at a point of the grid; None where something is wrong."""
        own = {key: value for key, value in run.items() if key not in _OF_RUNS}
        called, alias = str(run.get("name", name)), run.get("alias")
        told = f"run {called}: " if run else ""
        rows = run.get("data", self.values.get("data"))
        data = data if rows is None else self._sources(rows, told)
        if data is None and rows is None:
            self.problems.append(f"{told}it names no data: say data in the file, or --data")
        self.problems += [f"{told}{key} is in the grid, too: say it once" for key in own if key in point]
        settings = None if self.problems else self._settings({**self.shared, **self.given, **own, **point}, told)
        if settings is None or data is None:
            return None
        varied = {name: getattr(settings, name) for name in (*own, *point)}
        varied = {**({"data": run["data"]} if "data" in run else {}), **varied}
        said = _slug({name: varied[name] for name in (point if "name" in run else varied)})
        return Wanted(
            name=f"{called}-{said}" if said else called,
            data=data,
            settings=settings,
            varied=varied,
            alias=None if alias is None else str(alias),
        )

    def _sources(self, rows: Any, told: str) -> Sources | None:
        """Seen from the sweep's file."""
        try:
            found = Sources.parse(rows)
        except ConfigurationError as error:
            self.problems.append(f"{told}{error}")
            return None
        return Sources(files=tuple(replace(one, path=self.path.parent / one.path) for one in found.files))

    def check_names(self, found: list[Wanted]) -> None:
        names = [one.name for one in found]
        for name in sorted({one for one in names if names.count(one) > 1}):
            self.problems.append(f"{names.count(name)} runs are called {name}: give each a name of its own")
        for name in dict.fromkeys(names):
            try:
                check_adapter_name(name)
            except InvalidReference as error:
                self.problems.append(f"run {name}: {error}")

    def _mapping(self, key: str) -> dict[str, Any]:
        found = self.values.get(key) or {}
        if isinstance(found, dict):
            return {str(name): self._resolved(name, value) for name, value in found.items()}
        self.problems.append(f"{key}: {found!r} is no list of `name: value`")
        return {}

    def _axes(self) -> dict[str, list[Any]]:
        found = {}
        for name, values in self._mapping("grid").items():
            if not isinstance(values, list) or not values:
                self.problems.append(f"grid: {name} has the value {values!r}; it must be a list of values")
                continue
            found[name] = values
            for number, value in enumerate(values):
                if value in values[:number]:
                    self.problems.append(f"grid: {name} names {value!r} twice")
                self._check_values({name: value}, "grid: ")
        return found

    def _runs(self) -> list[dict[str, Any]]:
        listed = self.values.get("runs")
        if listed is None:
            return [{}]
        if not isinstance(listed, list) or not listed or not all(isinstance(one, dict) for one in listed):
            self.problems.append("runs: it must be a list, each with `name: value` of its own")
            return [{}]
        for number, one in enumerate(listed, start=1):
            own = {key: value for key, value in one.items() if key not in _OF_RUNS}
            self._check_values(own, f"run {one.get('name', number)}: ")
        return [{key: self._resolved(key, value) for key, value in one.items()} for one in listed]

    def _resolved(self, name: object, value: Any) -> Any:
        """A setting that is a file's name, seen from the sweep's file."""
        return str(self.path.parent / value) if name == "validation" and isinstance(value, str) else value

    def _check_known(self, values: Mapping[str, Any], known: tuple[str, ...], told: str) -> None:
        for name in values:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1)
                is_setting = name in {field.name for field in fields(FinetuneSettings)}
                meant = "put it under settings, grid or runs" if is_setting else f"the keys are {', '.join(known)}"
                self.problems.append(f"{told}unknown key {name!r}; {f'did you mean {near[0]!r}?' if near else meant}")

    def _check_values(self, values: Mapping[str, Any], told: str) -> None:
        """Each by itself, so that all are told."""
        for name, value in values.items():
            self._settings({str(name): value}, told)

    def _settings(self, values: Mapping[str, Any], told: str) -> FinetuneSettings | None:
        try:
            return FinetuneSettings.from_mapping(values)
        except ConfigurationError as error:
            self.problems.append(f"{told}{error}")
            return None


def _slug(varied: Mapping[str, Any]) -> str:
    """What makes a run another, as a part of its name."""
    parts = []
    for name, value in varied.items():
        if name == "validation":
            continue
        short = _SHORT.get(name, name)
        said = "-".join(one.path.stem for one in Sources.parse(value).files) if name == "data" else _said(value)
        parts.append(f"{short}{said}" if short in ("r", "lr", "") else f"{short}-{said}")
    return "-".join(re.sub(r"[^a-z0-9._]+", "-", one.lower()).strip("-._") for one in parts)


def _said(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
