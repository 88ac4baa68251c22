"""What a finished fine-tuning tells people: its page."""

from __future__ import annotations

from itertools import islice

from graft.training.adapt.made.answers import Asked
from graft.training.adapt.made.told import LEARNED, Made
from graft.training.finetune.audit.audit import Audit
from graft.training.finetune.audit.page import learned
from graft.training.finetune.ready import Ready
from graft.training.finetune.settings import FinetuneSettings
from graft.training.model.loading import load_tokenizer
from graft.training.report.masks import MAX_SHOWN
from graft.training.report.page import Section
from graft.training.report.report import Report


def report(made: Made, ready: Ready, settings: FinetuneSettings) -> Report:
    """Of what lies in its folder."""
    base, form = made.record.base.name, made.record.form
    tokenizer = load_tokenizer(ready.base.path)
    asked = [Asked.of_row(row) for row in islice(ready.rows, settings.report_examples)]
    taught = {} if ready.teacher is None else {"teacher": f"{settings.teacher} ({ready.teacher.digest})"}
    return Report(
        title=made.title,
        lead=f"A fine-tuning of {base} as {form}, on {len(ready.rows):,} examples.",
        origin={**made.origin, **taught},
        settings=settings,
        sections=[
            made.examples(asked, tokenizer, remark=LEARNED),
            _learned(ready),
            made.receipt(),
        ],
        commands=made.commands(),
    )


def _learned(ready: Ready) -> Section:
    """The audit of the rows, of which each file shows as many as there is room for."""
    files, is_split = ready.learning.files, bool(ready.learning.held_out)
    audit = Audit.of(
        ready.base.name,
        files,
        load_tokenizer(ready.base.path),
        known=frozenset() if is_split else {tuple(row.input_ids) for row in ready.measured},
        num_shown=max(1, MAX_SHOWN // len(files)),
    )
    return learned(audit, num_held_out=len(ready.learning.held_out))
