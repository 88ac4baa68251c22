"""What the page of a training on a base says, by whatever rows it learned."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from torch import nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedTokenizerBase

from graft.adapters.base import files as base_files
from graft.adapters.folder.record import TrainedRecord
from graft.adapters.folder.reference import FILE_NAME as REFERENCE_FILE
from graft.adapters.folder.reference import Reference
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.made import engine_ranks
from graft.training.adapt.made.answers import Asked, examples
from graft.training.adapt.made.written import folder_of
from graft.training.adapt.method import Method, Route
from graft.training.batch.encoding import end_ids
from graft.training.job.called import called
from graft.training.report.examples import section
from graft.training.report.page import Section, definitions

LEARNED = "The first rows that were trained on; answers are greedy."
HELD_OUT = "The first rows that were held out; answers are greedy."


@dataclass(frozen=True, kw_only=True)
class Made:
    """What came out of a training, in the folder of its job."""

    work: Path
    model: nn.Module
    method: Method
    base: Adaptable
    record: TrainedRecord

    @property
    def folder(self) -> Path:
        return self.work / folder_of(self.method, self.base)

    @property
    def title(self) -> str:
        return f"{self.work.name}: {self.method.name} on {self.record.base.name}"

    @property
    def origin(self) -> dict[str, object]:
        """Where it comes from."""
        record = self.record
        return {
            "base": f"{record.base.name} ({record.base.digest})",
            "held as": record.form,
            "method": self.method.name,
            "serving": str(self.method.way(self.base)),
            "trained parameters": f"{sum(one.numel() for one in self.model.parameters() if one.requires_grad):,}",
            "job": record.lineage.job,
            "digest of the data": record.lineage.data_digest,
            "code version": record.lineage.code_version,
            "seed": record.lineage.seed,
        }

    def receipt(self) -> Section:
        """What a server will compare its own log-probabilities with."""
        return Section(title="Receipt", body=definitions(_receipt(self.folder)))

    def examples(self, asked: Sequence[Asked], tokenizer: PreTrainedTokenizerBase, *, remark: str) -> Section:
        """Answers before and after. ``remark`` says which prompts these are."""
        if not asked:
            return section([], remark="none were asked for (report_examples 0)")
        if any(isinstance(one, DTensor) for one in self.model.parameters()):
            return section([], remark="none: the weights lie on several devices; serve the adapter and ask it")
        stop_ids = end_ids(tokenizer, base_files.stop_ids(self.base.path))
        return section(examples(self.model, asked, tokenizer, stop_ids=stop_ids), remark=remark)

    def commands(self) -> list[str]:
        """From it to an answer of a server."""
        made, name, base = shlex.quote(str(self.folder)), self.work.name, called(self.base.path)
        way = self.method.way(self.base)
        in_16_bits = "--quantization bf16  # four bits round small changes of weights away"
        if way.route is Route.BASE:
            return [f"graft serve --base {made} {in_16_bits}", "graft chat"]
        if way.route is Route.NONE:
            return [f"# no server takes it; {_reader(self.method.name, made)}"]
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


def _reader(method: str, made: str) -> str:
    """What reads an adapter that is not served: peft has no bottlenecks."""
    if method in ("houlsby", "pfeiffer"):
        return f"graft.training.adapt.methods.bottleneck.load_bottlenecks(model, {made!r}) puts it in a model"
    return "peft reads it"


def _receipt(made: Path) -> dict[str, str]:
    reference = Reference.read(made)
    if reference is None:
        return {REFERENCE_FILE: "none was recorded"}
    logprobs = [value for row in reference.rows for value in row.logprobs]
    return {
        "recorded": f"{len(logprobs)} log-probabilities of {len(reference.rows)} rows, on the base as {reference.form}",
        "their mean": f"{fmean(logprobs):.4f} nats",
        "compared": "by every server that loads the adapter, before it answers (the parity receipt)",
    }
