"""The files that a training learns from, each with its weight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from graft.adapters.digest import digest_of_json
from graft.training.errors import ConfigurationError
from graft.training.job.lineage import data_digest


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file, and its share of each epoch's rows; without one it is read whole, once an epoch."""

    path: Path
    weight: float | None = None

    @classmethod
    def parse(cls, given: str | Mapping[str, Any]) -> Self:
        """``rows.jsonl``, ``rows.jsonl:0.3`` (where no file has the whole as its name), or an object with ``path`` and
        ``weight``. Raises ``ConfigurationError``.
        """
        if isinstance(given, Mapping):
            unknown = set(given) - {"path", "weight"}
            if unknown or not isinstance(given.get("path"), str):
                raise ConfigurationError(f"data has {dict(given)!r}; a file is its path, or has a path and a weight.")
            return cls(path=Path(given["path"]), weight=_weight(given.get("weight"), given["path"]))
        name, mark, weight = given.rpartition(":")
        if not mark or not name or Path(given).exists() or not _is_number(weight):
            return cls(path=Path(given))
        return cls(path=Path(name), weight=_weight(weight, name))


@dataclass(frozen=True, kw_only=True)
class Sources:
    """All files of one training."""

    files: tuple[Source, ...]

    @classmethod
    def of(cls, data: Path | Sources) -> Sources:
        return data if isinstance(data, Sources) else cls(files=(Source(path=data),))

    @classmethod
    def parse(cls, given: Any) -> Self:
        """One file or a list of them, each as ``Source.parse`` has it. Raises ``ConfigurationError``."""
        listed = given if isinstance(given, list | tuple) else [given]
        if not listed or not all(isinstance(one, str | Mapping) for one in listed):
            raise ConfigurationError(f"data has the value {given!r}; it is a file, or a list of files with weights.")
        files = tuple(map(Source.parse, listed))
        paths = [one.path for one in files]
        if twice := [path for path in paths if paths.count(path) > 1]:
            raise ConfigurationError(f"data names {twice[0]} twice: give it once, with a weight.")
        weights = [one.weight for one in files if one.weight is not None]
        if len(weights) < len(files) and sum(weights) >= 1:
            raise ConfigurationError(
                f"the weights of data are {sum(weights):g} together, and a file without one has the rest of each "
                "epoch: they must be below 1, or every file needs one."
            )
        return cls(files=files)

    @property
    def paths(self) -> list[Path]:
        return [one.path for one in self.files]

    @property
    def weights(self) -> tuple[float | None, ...]:
        return tuple(one.weight for one in self.files)

    @property
    def digest(self) -> str:
        """Of one file that of its bytes. Raises ``OSError``."""
        if len(self.files) == 1:
            return data_digest(self.files[0].path)
        return digest_of_json([[data_digest(one.path), one.weight] for one in self.files])

    @property
    def only(self) -> Path:
        """The one file of a training that takes no others. Raises ``ConfigurationError``."""
        if len(self.files) > 1 or self.files[0].weight is not None:
            raise ConfigurationError("this training reads one file, without a weight: give --data once.")
        return self.files[0].path

    def absolute(self) -> Self:
        return replace(self, files=tuple(replace(one, path=one.path.absolute()) for one in self.files))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _weight(given: Any, name: str) -> float | None:
    if given is None:
        return None
    weight = float(given) if isinstance(given, int | float | str) and _is_number(str(given)) else math.nan
    if not 0 < weight < math.inf:
        raise ConfigurationError(f"the weight of {name} is {given!r}; it must be a number above 0.")
    return weight
