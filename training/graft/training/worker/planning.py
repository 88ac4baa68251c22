"""A dry run: what a supervised training would do and cost, by its files and by a few steps that are thrown away.

It runs where trainings do, with their own tokenizer, templates and reader of rows: what is told of the mask is what the
training would learn, and the time is this machine's.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from graft.training.finetune.audit.audit import Audit, FileAudit
from graft.training.finetune.job import Finetune
from graft.training.finetune.ready import Ready
from graft.training.loop.progress import read_metrics
from graft.training.model.loading import load_tokenizer
from graft.training.report.masks import bounded
from graft.v1 import job_pb2 as pb

_TRIED_STEPS = 3
"""The first is slow for other reasons, and is not counted."""
_MAX_NOTES = 50


def planned(training: Finetune, *, tried: Path) -> pb.JobPlan:
    """``tried`` is a folder for the steps, which is taken away. Raises what the training does before it begins."""
    base, settings = training.base, training.settings
    ready = Ready.of(base, training.form, training.data, settings, settings.mesh(1), num_processes=1)
    known = {tuple(one.input_ids) for one in ready.measured}
    audit = Audit.of(base.name, ready.learning.files, load_tokenizer(base.path), known=known)
    (file,) = audit.files
    num_steps = ready.identity.schedule.num_steps
    tokens = round(file.num_tokens * num_steps / ready.batches.steps_per_epoch)
    plan = pb.JobPlan(
        num_rows=file.num_rows,
        num_examples=file.num_examples,
        num_tokens=file.num_tokens,
        num_learned_tokens=file.num_learned,
        num_cut=len(file.cut),
        num_dropped=len(file.dropped),
        num_steps=num_steps,
        trained_tokens=tokens,
        notes=list(_notes(file))[:_MAX_NOTES],
    )
    for example in audit.examples:
        pieces = [pb.PlannedPiece(text=text, is_learned=learned) for text, learned in bounded(example.pieces)]
        plan.examples.add(row=example.number, pieces=pieces)
    speed = _speed(training, min(_TRIED_STEPS, num_steps), tried)
    if speed is not None:
        plan.duration.FromMilliseconds(round(1000 * tokens / speed))
    return plan


def _speed(training: Finetune, num_steps: int, folder: Path) -> float | None:
    """Tokens per second; None where there is but one step."""
    shutil.rmtree(folder, ignore_errors=True)
    settings = replace(
        training.settings, max_steps=num_steps, validation=None, eval_steps=None, tensorboard=False, report_examples=0
    )
    try:
        replace(training, settings=settings, work=folder).execute()
        rows = read_metrics(folder)[1:]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    seconds = sum(float(row["seconds"]) for row in rows)
    return sum(float(row["tokens"]) for row in rows) / seconds if seconds else None


def _notes(file: FileAudit) -> Iterator[str]:
    yield from file.notes
    for what, rows in (("left out", file.dropped), ("cut", file.cut)):
        for number, reason in rows:
            yield f"Line {number} is {what}: {reason}"
    if file.held_out:
        yield f"{len(file.held_out)} rows are also measured on, which flatters."
