"""A training as a launcher sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, Self

from graft.training.launch.processes import Processes


class Job(Protocol):
    """What every process of a training executes. It can be pickled."""

    @property
    def name(self) -> str: ...

    @property
    def work(self) -> Path:
        """The folder of its checkpoints, which all processes see."""
        ...

    def absolute(self) -> Self:
        """The same for a process whose current folder is another."""
        ...

    def check_work(self, *, resume: bool) -> None:
        """Makes sure that checkpoints in ``work`` are this training's to go on from. Raises ``CheckpointError``."""
        ...

    def execute(self, processes: Processes, *, resume: bool) -> Any: ...
