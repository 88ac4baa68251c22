"""The way to a new base: the update inside of its weights, merged in float32."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from peft.tuners.trainable_tokens.layer import TrainableTokensLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from graft.adapters.adapter import Lineage
from graft.adapters.base import files as base_files
from graft.adapters.base.base import Base
from graft.adapters.base.hub_id import shown
from graft.adapters.base.pruned import FILE_NAME as PRUNED_FILE
from graft.adapters.base.quantized import FILE_NAME as QUANTIZED_FILE
from graft.adapters.form import ServingForm
from graft.training.adapt.compiler.original import Original
from graft.training.adapt.compiler.peft_model import layers_of
from graft.training.adapt.compiler.report import FILE_NAME as REPORT_FILE
from graft.training.adapt.compiler.report import LayerReport
from graft.training.errors import ConfigurationError, first_line
from graft.training.job.beside import copy_beside_weights
from graft.training.job.export import make_readable

_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def merged(model: PeftModel) -> PreTrainedModel:
    """Raises ``ConfigurationError`` where the method has no linear form."""
    _untie(model)
    try:
        found: PreTrainedModel = model.merge_and_unload(safe_merge=True)
    except Exception as error:  # what peft raises differs from method to method
        method = next(iter(model.peft_config.values())).peft_type.value
        raise ConfigurationError(f"{method} cannot be merged into the base: {first_line(error)}") from None
    return found


def _untie(model: PeftModel) -> None:
    """Where a layer shares its weight with another module: peft computes with the update in this layer only, and would
    merge it into both. Tokens that were trained one by one are peft's to tie.
    """
    owners = Counter(id(one) for _, one in model.named_parameters(remove_duplicate=False))
    for _, layer in layers_of(model):
        below = layer.get_base_layer()
        if owners[id(getattr(below, "weight", None))] > 1 and not isinstance(layer, TrainableTokensLayer):
            below.weight = nn.Parameter(below.weight.detach().clone(), requires_grad=False)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Of a model in float32, by name."""

    tensors: Mapping[str, Tensor]

    @classmethod
    def of(cls, model: nn.Module) -> Weights:
        return cls(tensors={name: one.detach() for name, one in model.named_parameters()})

    @torch.no_grad()
    def reports(self, *, before: nn.Module, served: nn.Module) -> tuple[LayerReport, ...]:
        """What the merge changed of a base, and how far from it is what is served."""
        bases, others = dict(before.named_parameters()), dict(served.named_parameters())
        found = []
        for name, one in self.tensors.items():
            size = float((one.double() - bases[name].double()).norm()) if name in bases else float(one.double().norm())
            if size:
                error = float((one.double() - others[name].double()).norm())
                path = name.removesuffix(".weight")
                found.append(LayerReport(path=path, rank=None, num_parameters=one.numel(), error=error, size=size))
        return tuple(found)


@torch.no_grad()
def write_merged(
    model: PreTrainedModel, base: Base, original: Original, folder: Path, *, name: str, form: ServingForm
) -> None:
    """In the type that most of the base's own numbers have, to which the model is rounded; tokenizer and configuration
    are the base's, the chat template is the adapter's where it has one.
    """
    dtype = _own_dtype(base)
    head, table = model.get_output_embeddings(), model.get_input_embeddings()
    has_own_head = head is not None and not torch.equal(head.weight, table.weight)
    if has_own_head:
        model.config.tie_word_embeddings = False
    model.to(dtype)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    copy_beside_weights(base.path, folder)
    for name in (QUANTIZED_FILE, PRUNED_FILE, "training.json"):  # they speak of other weights
        (folder / name).unlink(missing_ok=True)
    config = json.loads((base.path / base_files.CONFIG).read_text(encoding="utf-8"))
    config.pop("quantization_config", None)
    config |= {"dtype": str(dtype).removeprefix("torch.")}
    if has_own_head:
        config["tie_word_embeddings"] = False
    (folder / base_files.CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    original.copy_template(folder)
    card = _card(base, original, original.lineage(base, form), name=name)
    (folder / "README.md").write_text(card, encoding="utf-8")
    make_readable(folder)


def _own_dtype(base: Base) -> torch.dtype:
    tensors = base_files.read(base.path).tensors.values()
    counted = Counter(one.dtype for one in tensors if one.dtype in _DTYPES)
    return _DTYPES[counted.most_common(1)[0][0]]


def _card(base: Base, original: Original, lineage: Lineage, *, name: str) -> str:
    (parent,) = lineage.parents
    trained = "" if lineage.job is None else f" It was trained by the job {lineage.job} on {lineage.data_digest}."
    return (
        f"# {name}\n\nMade by `graft compile` from {shown(base.path)}, the base {base.digest}, with the "
        f"{original.method} adapter {parent.digest} merged into its weights in float32.{trained} How far what is "
        f"served is from what was trained stands in `{REPORT_FILE}`.\n"
    )
