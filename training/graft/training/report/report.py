"""One page on a finished training: what it learned, from what, how that went, and what to do with it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from graft.training.errors import NotWritten, first_line
from graft.training.loop.progress import read_metrics
from graft.training.report.curves import curves, speed
from graft.training.report.page import Section, definitions, page, tiles, verbatim
from graft.training.report.settings import section as section_of_settings
from graft.training.report.summary import summary
from graft.training.runtime.disk import put_text
from graft.training.settings.settings import TrainingSettings

_log = logging.getLogger(__name__)

FILE = "report.html"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a training says of itself beside its metrics."""

    title: str
    lead: str
    """What was made, in a sentence."""
    origin: Mapping[str, object]
    """Base, form, method, digests, code version: where it comes from."""
    settings: TrainingSettings
    sections: Sequence[Section] = ()
    """Of the kind of training: examples, the audit of its rows, receipts."""
    learned: str = "tokens"
    """What its loss is taken of."""
    commands: Sequence[str] = field(default=())
    """What people do next, as they would type it."""

    def write(self, folder: Path) -> Path:
        """Writes ``report.html`` beside ``metrics.jsonl``, whole or not. Raises ``NotWritten``, ``OSError``."""
        path = folder / FILE
        put_text(path, self.html(folder))
        return path

    def html(self, folder: Path) -> str:
        """The page, with the curves of the metrics in ``folder``. Raises ``OSError`` where there are none."""
        rows = read_metrics(folder)
        told = [Section(title="In short", body=tiles(summary(rows, learned=self.learned)))]
        if self.commands:
            told.append(Section(title="What to do with it", body=verbatim("\n".join(self.commands))))
        told += [curves(rows), *self.sections, speed(rows)]
        told.append(Section(title="Where it comes from", body=definitions(self.origin)))
        told.append(section_of_settings(self.settings))
        return page(self.title, self.lead, told)


def leave(page: Path, write: Callable[[], object]) -> None:
    """Lets ``write`` write a page about what is finished: a page is no reason to lose that."""
    try:
        write()
    except (NotWritten, OSError, torch.OutOfMemoryError) as error:
        _log.warning("%s is left out: %s", page, first_line(error))
