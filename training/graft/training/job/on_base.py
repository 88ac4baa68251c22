"""A training on a base: what it is asked to do, and where it works."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from graft.adapters.base.base import Base
from graft.training.job.folder import JobFolder
from graft.training.settings.settings import TrainingSettings

SettingsT = TypeVar("SettingsT", bound=TrainingSettings)


@dataclass(frozen=True, kw_only=True)
class OnBase(Generic[SettingsT]):
    """What every such training has. ``work`` gets checkpoints, metrics, and what comes out."""

    base: Base
    data: Any
    """A file of rows, or several."""
    settings: SettingsT
    work: Path

    @property
    def name(self) -> str:
        return self.work.name

    @property
    def folder(self) -> JobFolder:
        return JobFolder(path=self.work, flag="--output")

    def absolute(self) -> Self:
        """The same for a process in another folder."""
        validation = self.settings.validation
        settings = replace(self.settings, validation=validation and str(Path(validation).absolute()))
        return replace(self, data=self.data.absolute(), settings=settings, work=self.work.absolute())

    def check_work(self, *, resume: bool) -> None:
        """Raises ``CheckpointError`` where an earlier run would be written over."""
        self.folder.check(resume=resume)
