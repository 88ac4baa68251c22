"""What a finished fine-tuning tells people: its page."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from graft.adapters.base import files as base_files
from graft.adapters.folder.record import TrainedRecord
from graft.adapters.folder.reference import FILE_NAME as REFERENCE_FILE
from graft.adapters.folder.reference import Reference
from graft.training.adapt.made import engine_ranks
from graft.training.adapt.made.answers import examples
from graft.training.adapt.made.written import folder_of
from graft.training.adapt.method import Route, Way
from graft.training.batch.encoding import end_ids
from graft.training.batch.packing import Encoded
from graft.training.errors import NotWritten, first_line
from graft.training.finetune.ready import Ready
from graft.training.finetune.settings import FinetuneSettings
from graft.training.model.loading import load_tokenizer
from graft.training.report.examples import section
from graft.training.report.page import Section, definitions
from graft.training.report.report import FILE, Report

_log = logging.getLogger(__name__)


def write_report(
    folder: Path, model: nn.Module, ready: Ready, settings: FinetuneSettings, record: TrainedRecord
) -> None:
    """``report.html`` in the job's folder, whose ``adapter/`` is finished: a page is no reason to lose a training."""
    try:
        _report(folder, model, ready, settings, record).write(folder)
    except (NotWritten, OSError, ImportError, torch.OutOfMemoryError) as error:
        _log.warning("%s is left out: %s", folder / FILE, first_line(error))


def _report(folder: Path, model: nn.Module, ready: Ready, settings: FinetuneSettings, record: TrainedRecord) -> Report:
    name, base, way = folder.name, record.base, ready.method.way(ready.base)
    return Report(
        title=f"{name}: {ready.method.name} on {base.name}",
        lead=f"A fine-tuning of {base.name} as {record.form}, on {len(ready.rows):,} examples.",
        origin={
            "base": f"{base.name} ({base.digest})",
            "held as": record.form,
            "method": ready.method.name,
            "serving": str(way),
            "trained parameters": f"{_num_trained(model):,}",
            "job": record.lineage.job,
            "digest of the data": record.lineage.data_digest,
            "code version": record.lineage.code_version,
            "seed": record.lineage.seed,
        },
        settings=vars(settings),
        sections=[
            _examples(model, ready, settings.report_examples),
            Section(title="What it learned from", body=definitions(_rows_in_figures(ready.rows))),
            Section(title="Receipt", body=definitions(_receipt(folder / folder_of(ready.method, ready.base)))),
        ],
        commands=_next_steps(folder / folder_of(ready.method, ready.base), name, base.name, way),
    )


def _examples(model: nn.Module, ready: Ready, num: int) -> Section:
    if not num:
        return section([], remark="none were asked for (report_examples 0)")
    if any(isinstance(one, DTensor) for one in model.parameters()):
        return section([], remark="none: the weights lie on several devices; serve the adapter and ask it")
    tokenizer, path = load_tokenizer(ready.base.path), ready.base.path
    stop_ids = end_ids(tokenizer, base_files.stop_ids(path))
    found = examples(model, ready.rows[:num], tokenizer, stop_ids=stop_ids)
    return section(found, remark="The first rows that were trained on; answers are greedy.")


def _rows_in_figures(rows: Sequence[Encoded]) -> dict[str, str]:
    lengths = sorted(len(row.input_ids) for row in rows)
    num_learned = sum(sum(row.supervised) for row in rows)
    return {
        "examples": f"{len(rows):,}",
        "tokens": f"{sum(lengths):,}",
        "of which learned": f"{num_learned:,} ({num_learned / sum(lengths):.0%})",
        "length": f"{lengths[0]} to {lengths[-1]} tokens, half of them {lengths[len(lengths) // 2]} or fewer",
    }


def _receipt(made: Path) -> dict[str, str]:
    """What a server will compare its own log-probabilities with."""
    reference = Reference.read(made)
    if reference is None:
        return {REFERENCE_FILE: "none was recorded"}
    logprobs = [value for row in reference.rows for value in row.logprobs]
    return {
        "recorded": f"{len(logprobs)} log-probabilities of {len(reference.rows)} rows, on the base as {reference.form}",
        "their mean": f"{fmean(logprobs):.4f} nats",
        "compared": "by every server that loads the adapter, before it answers (the parity receipt)",
    }


def _num_trained(model: nn.Module) -> int:
    return sum(one.numel() for one in model.parameters() if one.requires_grad)


def _next_steps(made: Path, name: str, base: str, way: Way) -> list[str]:
    in_16_bits = "--quantization bf16  # four bits round small changes of weights away"
    if way.route is Route.BASE:
        return [f"graft serve --base {made} {in_16_bits}", "graft chat"]
    if way.route is Route.NONE:
        return ["no server takes it: it is read by peft and transformers"]
    if way.route is Route.MERGE:
        compiled = f"graft compile {made} --base {base} --output {name}-base"
        return [compiled, f"graft serve --base {name}-base {in_16_bits}", "graft chat"]
    max_rank = (
        f" --max-rank {engine_ranks.engine_rank(way.rank)}"
        if way.rank is not None and way.rank > engine_ranks.DEFAULT
        else ""
    )
    serve, chat = f"graft serve --base {base}{max_rank}", f"graft chat --model {name}"
    if way.route in (Route.AS_IS, Route.PROMPT):
        return [serve, f"graft adapters push {made} --name {name} --alias stable", chat]
    compiled = f"{name}-lora"
    push = f"graft adapters push {compiled} --name {name} --alias stable"
    return [f"graft compile {made} --base {base} --output {compiled}", serve, push, chat]
