"""A training on a base: what it is asked to do, and where it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from graft.adapters.base.base import Base
from graft.training.job.folder import JobFolder
from graft.training.loop.progress import Listener
from graft.training.loop.run import Run
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
    job: str | None = None
    """The id of a server's job of which it is the training: what comes out names it as its origin."""
    hearing: Callable[[Run], Listener] | None = None
    """Who else hears of the run. It can be pickled."""

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

    def heard(self, run: Run) -> Run:
        """The run, of whose steps ``hearing`` hears, too."""
        others, hearing = run.listeners, self.hearing
        if hearing is not None:
            run.listeners = lambda step: [*others(step), hearing(run)]
        return run

    def check_work(self, *, resume: bool) -> None:
        """Raises ``CheckpointError`` where an earlier run would be written over."""
        self.folder.check(resume=resume)
