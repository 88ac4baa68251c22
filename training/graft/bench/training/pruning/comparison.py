"""A base pruned by every method, measured on text that none of them saw."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from peft import PeftModel
from torch import Tensor, nn
from tqdm import tqdm

from graft.adapters.base.base import Base
from graft.adapters.base.pruned import PrunedRecord
from graft.adapters.form import ServingForm
from graft.bench.training.pruning.figures import Figures
from graft.bench.training.pruning.speed import sparse_speed, tokens_per_second
from graft.training.batch.packing import IGNORED
from graft.training.compress.calibration import CalibrationText
from graft.training.compress.prune.prune import Method, Pruning
from graft.training.compress.prune.sparsity import Sparsity
from graft.training.finetune.job import Finetune
from graft.training.finetune.settings import FinetuneSettings
from graft.training.model.loading import load_base, load_tokenizer
from graft.training.objective.head import labelled
from graft.training.runtime.device import device_kind, own_device

PLAIN = "plain"
_LETTERS = 400
"""Of a row that the adapter learns from."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """``text`` calibrates, and is what adapters learn from; ``held_out`` is measured on."""

    base: Base
    text: CalibrationText
    held_out: CalibrationText
    num_tokens: int
    sparsities: Sequence[Sparsity]
    recover_steps: int | None

    def measure(self) -> dict[str, Figures]:
        """By name, the plain base first. Raises what pruning and fine-tuning raise."""
        with tempfile.TemporaryDirectory(prefix="graft-pruning-") as name:
            work = Path(name)
            found = {PLAIN: self._figures(self.base, None, work / PLAIN)}
            ways = [(method, sparsity) for sparsity in self.sparsities for method in Method]
            for method, sparsity in tqdm(ways, unit="base", desc="pruning and measuring", disable=None):
                name = f"{method}_{sparsity}"
                text = None if method is Method.MAGNITUDE else self.text
                pruning = Pruning(
                    base=self.base,
                    method=method,
                    sparsity=sparsity,
                    output=work / name,
                    text=text,
                    num_tokens=self.num_tokens,
                )
                found[name] = self._figures(pruning.execute(), sparsity, work / f"{name}-adapter")
        return found

    def _figures(self, base: Base, sparsity: Sparsity | None, work: Path) -> Figures:
        model = load_base(base.path, ServingForm.BF16, device=own_device(device_kind()))
        record = None if sparsity is None else PrunedRecord.read(base.path)
        made = {} if record is None else record.layers
        layers = [model.get_submodule(path) for path in made]
        errors = [one.error for one in made.values() if one.error is not None]
        batches = self._batches(self.held_out, base)
        return Figures(
            zeros=_zeros(layers),
            error=fmean(errors) if errors else None,
            perplexity=perplexity(model, batches),
            recovered_perplexity=None if self.recover_steps is None else self._recovered(base, batches, work),
            dense_bytes=base.size_bytes,
            sparse_bytes=base.size_bytes - sum(_saved_bytes(layer, sparsity) for layer in layers),
            tokens_per_second=tokens_per_second(model, batches[0].to(model.device)),
            sparse_speed=sparse_speed(layers, is_2_of_4=str(sparsity) == "2:4") if layers else None,
        )

    def _batches(self, text: CalibrationText, base: Base) -> list[Tensor]:
        context = int(json.loads((base.path / "config.json").read_text()).get("max_position_embeddings", 512))
        return text.batches(load_tokenizer(base.path), num_tokens=self.num_tokens, context=context)

    def _recovered(self, base: Base, batches: Sequence[Tensor], work: Path) -> float:
        work.mkdir()
        rows = work / "rows.jsonl"
        pieces = [one[at : at + _LETTERS] for one in self.text.documents for at in range(0, len(one), _LETTERS)]
        rows.write_text(
            "".join(json.dumps({"prompt": "", "completion": piece}) + "\n" for piece in pieces if piece.strip()),
            encoding="utf-8",
        )
        settings = FinetuneSettings(
            max_steps=self.recover_steps, load_in_4bit=False, per_device_train_batch_size=16, max_length=1024
        )
        adapter = Finetune(base=base, data=rows, settings=settings, work=work / "job").execute()
        model = load_base(base.path, ServingForm.BF16, device=own_device(device_kind()))
        adapted = PeftModel.from_pretrained(model, adapter).eval().merge_and_unload()
        return float(perplexity(adapted, batches))


@torch.inference_mode()
def perplexity(model: nn.Module, batches: Sequence[Tensor]) -> float:
    """exp of the mean −log p of every token but each row's first, as the papers measure it: the text cut into rows of
    one length.
    """
    total, num = 0.0, 0
    for batch in batches:
        ids_BL = batch.to(next(model.parameters()).device)
        labels_BL = torch.cat([ids_BL[:, 1:], ids_BL.new_full((len(ids_BL), 1), IGNORED)], dim=1)
        total += float(labelled(model, labels_BL, input_ids=ids_BL, use_cache=False).logits)
        num += int(ids_BL[:, 1:].numel())
    return math.exp(total / num)


def _zeros(layers: Sequence[nn.Module]) -> float:
    weights = [layer.weight for layer in layers]
    return float(sum(int((one == 0).sum()) for one in weights) / max(1, sum(one.numel() for one in weights)))


def _saved_bytes(layer: nn.Module, sparsity: Sparsity | None) -> int:
    assert sparsity is not None
    weight_OI = layer.weight
    kept = int((weight_OI != 0).sum())
    bits = weight_OI.numel() if sparsity.group is None else kept * math.ceil(math.log2(sparsity.group))
    return int(weight_OI.nbytes - kept * weight_OI.itemsize - bits / 8)
