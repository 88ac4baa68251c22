"""What a fine-tuning will take, from the base's configuration alone: memory by batch size, with and without computing
blocks again, and which of them fits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from peft import LoraConfig, TaskType
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from graft.adapters.base.form_of_folder import folder_form
from graft.adapters.form import ServingForm
from graft.training.adapt.mesh import check_mesh
from graft.training.adapt.methods.through_peft import inject
from graft.training.errors import ConfigurationError, first_line
from graft.training.finetune.memory import Adapted
from graft.training.finetune.positions import beyond_positions
from graft.training.finetune.settings import FinetuneSettings
from graft.training.launch.machine import Machine
from graft.training.model.configuration import num_positions
from graft.training.model.cost.activations import recomputed, told
from graft.training.model.cost.flops import flops_per_token
from graft.training.parallel.mesh import Mesh
from graft.training.runtime import markdown

BATCHES = (1, 2, 4, 8, 16, 32, 64)
UTILISATION = 0.4
"""For the speed, where nothing is measured yet."""


def plan(folder: Path, settings: FinetuneSettings, machine: Machine) -> str:
    """The plan in words and a table; of the folder its config.json is read. Raises ``ConfigurationError``."""
    own, adapted = adapted_on_meta(folder, settings)
    config, mesh = adapted.model.config, settings.mesh(machine.num)
    check_mesh(config, settings, mesh, own=own, form=adapted.form, num_processes=machine.num)
    num = sum(one.numel() for one in adapted.model.parameters() if not one.requires_grad)
    per_token = flops_per_token(adapted.model, settings.max_length)
    lines = [
        f"{folder.name} in {adapted.form}: {num / 1e9:,.2f}B parameters, "
        f"{adapted.base_bytes_on(mesh) / 1e9:.2f} GB on a device{_sharing(adapted, mesh)}",
        f"adapters of rank {settings.r}: {adapted.num_adapter / 1e6:,.1f}M parameters",
        f"memory: {machine.said}",
    ]
    if machine.peak is not None and per_token is not None:
        speed = UTILISATION * machine.peak / per_token
        lines.append(
            f"at {UTILISATION:.0%} MFU about {speed:,.0f} tokens/s; 4-bit weights that are made plain cost more"
        )
    if said := beyond_positions(folder.name, num_positions(config), settings.max_length):
        lines.append(said)
    lines += told(adapted.activations(settings.per_device_train_batch_size, settings.max_length))
    return "\n".join([*lines, "", *_table(adapted, settings, machine, mesh)])


def adapted_on_meta(folder: Path, settings: FinetuneSettings) -> tuple[ServingForm | None, Adapted]:
    """The form of the folder's own weights, None where they are plain, and the base with adapters, without weights.

    Raises ``ConfigurationError``.
    """
    own = folder_form(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    return own, Adapted(model=_adapted(folder, settings), form=_form(own, settings))


def _sharing(adapted: Adapted, mesh: Mesh) -> str:
    if not mesh.shards_weights:
        return ""
    return f": its share of {adapted.base_bytes / 1e9:.2f} GB among {mesh.dp_shard}, and what is gathered at a time"


def _table(adapted: Adapted, settings: FinetuneSettings, machine: Machine, mesh: Mesh) -> Iterator[str]:
    rows, largest = [], dict[bool, int]()
    smallest = float("inf")
    for is_checkpointed in (False, True):
        for batch in sorted({*BATCHES, settings.per_device_train_batch_size}):
            need = adapted.memory(
                rows=batch, length=settings.max_length, recomputes=is_checkpointed, device=machine.kind, mesh=mesh
            )
            smallest, fits = min(smallest, need.total), need.total < machine.usable
            if fits:
                largest[is_checkpointed] = batch
            is_said = recomputed(adapted.model, settings.gradient_checkpointing) != "none"
            chosen = (batch, is_checkpointed) == (settings.per_device_train_batch_size, is_said)
            parts = (need.base, need.adapter, need.activations, need.besides, need.total)
            verdict = ("yes" if fits else "no") + (", chosen" if chosen else "")
            again = "yes" if is_checkpointed else "no"
            rows.append([batch, settings.max_length, again, *(f"{one / 1e9:.3g}" for one in parts), verdict])
    head = "rows | tokens each | computed again | base | adapter | activations | besides | GB | fits"
    yield markdown.table(head, rows)
    yield ""
    may_shrink = adapted.form is not ServingForm.NF4 and (settings.load_in_8bit or not settings.load_in_4bit)
    yield _verdict(largest, smallest, machine, may_shrink=may_shrink)


def _verdict(largest: dict[bool, int], smallest: float, machine: Machine, *, may_shrink: bool) -> str:
    if not largest:
        ways = ["lower --max-length", *(["take --load-in-4bit"] if may_shrink else []), "or take a larger device"]
        least = f"the least is {smallest / 1e9:.3g} GB of {machine.usable / 1e9:.3g}"
        return f"nothing fits: {least}; {', '.join(ways)}"
    said = {False: "without computing blocks again", True: "with --gradient-checkpointing"}
    told = [f"{largest[key]} {words}" for key, words in said.items() if key in largest]
    return f"the largest --per-device-train-batch-size of these that fits is {', '.join(told)}"


def _adapted(folder: Path, settings: FinetuneSettings) -> PreTrainedModel:
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        if hasattr(config, "quantization_config"):
            del config.quantization_config  # shapes are those of the plain model
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    except Exception as error:  # each architecture's configuration has checks and errors of its own
        raise ConfigurationError(f"{folder / 'config.json'} makes no decoder: {first_line(error)}") from None
    model.requires_grad_(False)
    head = model.get_output_embeddings()
    names = {
        path.rpartition(".")[2] for path, one in model.named_modules() if isinstance(one, nn.Linear) and one is not head
    }
    wanted = names if settings.target_modules is None else set(settings.target_modules)
    if not names or any(name.rpartition(".")[2] not in names for name in wanted):
        raise ConfigurationError(
            f"setting 'target_modules' has the value {settings.target_modules}; the linear layers of {folder.name} are "
            f"{', '.join(sorted(names)) or 'none'}."
        )
    lora = LoraConfig(r=settings.r, target_modules=sorted(wanted), task_type=TaskType.CAUSAL_LM)
    with torch.device("meta"):
        inject(model, lora, base_name=folder.name)
    return model


def _form(own: ServingForm | None, settings: FinetuneSettings) -> ServingForm:
    """The folder's own where its weights are quantized already."""
    if own in (ServingForm.INT8, ServingForm.INT4):
        return ServingForm.BF16  # as which they are computed with
    if own is not None:
        return own
    return settings.form
