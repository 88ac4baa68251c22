"""A finished pretraining: its base, written with its origin and then measured, and how fast it was."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from torch import nn

from graft.training.batch.text_rows import PackedText, TextRows
from graft.training.corpus.chat_template import IM_END
from graft.training.evaluation import baselines
from graft.training.evaluation.baselines import NGrams
from graft.training.job.export import behind_it, make_readable, put_in_place, write_models
from graft.training.job.lineage import ORIGIN
from graft.training.loop.checkpoint import load_tensors, stored_tensors
from graft.training.loop.progress import METRICS, Gauge, read_metrics
from graft.training.model.loading import parts
from graft.training.parallel.layout import Alone
from graft.training.parallel.mesh import Mesh
from graft.training.pretrain.assembly import Assembly
from graft.training.pretrain.origin import card, origin
from graft.training.pretrain.settings import PretrainSettings
from graft.training.pretrain.sources import end_id
from graft.training.pretrain.text import HeldOutText
from graft.training.runtime import markdown
from graft.training.runtime.compiling import uncompiled
from graft.training.runtime.disk import replace_text, written

_log = logging.getLogger(__name__)

MAX_COUNTED = 1 << 26
"""Tokens whose triples are counted: their keys take 16 bytes each, and all are sorted again every four million."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What one process makes of what was trained, whatever the mesh was."""

    assembly: Assembly
    checkpoint: Path
    output: Path
    device: str
    """Where it is measured."""
    text_digests: Sequence[str]
    run: str
    """``Identity.run`` of the training."""

    def write(
        self, data: PackedText | TextRows, held_out: HeldOutText | None, trained: nn.Module | None
    ) -> dict[str, float]:
        """Writes the folder, and then what is measured on ``held_out``, which is returned.

        ``trained`` is the model where this process has it whole, else it is read from the checkpoint. Raises
        ``TrainingError`` where there is no memory to measure it with: the folder is whole without it.
        """
        model = whole_model(self.assembly, self.checkpoint) if trained is None else trained
        record = {**origin(self.assembly.settings, self.text_digests), "run": self.run}
        put_in_place(self.output, lambda folder: self._fill(folder, model, record))
        if held_out is None:
            return {}
        remedy = "repeat that with --resume where there is more, or leave --validation out"
        with behind_it(self.output, what="its measures on held-out text", remedy=remedy):
            metrics = self._measured(model, data, held_out)
        with written(self.output):
            self._describe(self.output, model, record, metrics)
        return metrics

    def _measured(self, model: nn.Module, data: PackedText | TextRows, held_out: HeldOutText) -> dict[str, float]:
        """Of the model, and of counting models on the same tokens."""
        with uncompiled():
            found = held_out.measure.measure(model.to(self.device), Alone(self.device))
        if held_out.overlap is not None:
            found["validation_overlap"] = held_out.overlap
        return found | self._counted(data, held_out)

    def _counted(self, data: PackedText | TextRows, held_out: HeldOutText) -> dict[str, float]:
        """What counting models know of it, which count all of the text or are left out."""
        if isinstance(data, PackedText) and data.num_tokens > MAX_COUNTED:
            _log.warning(
                "the unigram and the trigram model are left out: they count %d tokens at most, and the text has %d",
                MAX_COUNTED,
                data.num_tokens,
            )
            return {}
        tokenizer = self.assembly.tokenizer
        end = end_id(tokenizer)
        seen = ([*document, end] for document in data.documents())
        ngrams = NGrams(seen, vocab_size=1 + max(tokenizer.get_vocab().values()))
        return baselines.measure(ngrams, held_out.measure.batches)

    def _ends(self) -> list[int]:
        """What generation stops at: the end of a document, and of a turn where the tokenizer knows turns."""
        turn = self.assembly.tokenizer.get_vocab().get(IM_END)
        return [end_id(self.assembly.tokenizer), *([] if turn is None else [turn])]

    def _fill(self, folder: Path, model: nn.Module, record: Mapping[str, Any]) -> None:
        models = parts(model)
        for one in models.values():
            if one.can_generate() and one.generation_config is not None:
                one.generation_config.eos_token_id = self._ends()
        write_models(models, self.assembly.tokenizer, folder)
        self._describe(folder, model, record, {})

    def _describe(
        self, folder: Path, model: nn.Module, record: Mapping[str, Any], metrics: Mapping[str, float]
    ) -> None:
        replace_text(folder / ORIGIN, json.dumps({**record, "metrics": dict(metrics)}, indent=1))
        replace_text(folder / "README.md", card(self.output.name, self.assembly, model, metrics))
        make_readable(folder)


def run_of(folder: Path) -> str | None:
    """Which training made the base there; None where it does not say."""
    try:
        record = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record.get("run") if isinstance(record, dict) else None


def whole_model(assembly: Assembly, checkpoint: Path) -> nn.Module:
    """The model of a checkpoint in one process, in the type it was computed in: its running mean where it holds one."""
    model = assembly.empty()
    kind = "average" if any(name.startswith("average/") for name in stored_tensors(checkpoint)) else "master"
    load_tensors(checkpoint, {f"{kind}/{name}": one.detach() for name, one in model.named_parameters()})
    return model


def layout_table(settings: PretrainSettings, mesh: Mesh, work: Path, gauge: Gauge) -> str:
    """The run as a row of Llama 3's table of layouts (Dubey et al. 2024, arXiv:2407.21783, table 4), in Markdown.

    Speeds are medians over all steps but the first tenth. Without GPUs it stands for a process.
    """
    rows = read_metrics(work)
    counted = rows[len(rows) // 10 :]
    if not counted:
        return f"no step stands in {work / METRICS}: the table of speeds is left out"
    speed = median(row["tokens_per_second"] for row in counted)
    share = gauge.utilisation(speed)
    per_gpu = None if gauge.flops_per_token is None else gauge.flops_per_token * speed / mesh.size
    cells = [
        mesh.size,
        mesh.tp,
        mesh.cp,
        mesh.pp,
        mesh.dp,
        settings.max_length,
        settings.per_device_train_batch_size * settings.gradient_accumulation_steps,
        f"{median(row['tokens'] for row in counted):,.0f}",
        "–" if per_gpu is None else f"{per_gpu / 1e12:.3g}",
        "–" if share is None else f"{share:.0%}",
    ]
    head = "GPUs | TP | CP | PP | DP | Seq. Len. | Batch size/DP | Tokens/Batch | TFLOP/s per GPU | MFU"
    return markdown.table(head, [cells])
