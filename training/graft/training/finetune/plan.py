"""What a fine-tuning will take, from the base's configuration alone: memory by batch size, with and without computing
blocks again, and which of them fits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from graft.adapters.form import ServingForm
from graft.training.adapt.mesh import check_mesh
from graft.training.adapt.methods.catalog import check_beside_rows, warn_of_unused
from graft.training.adapt.optimizers import check_optimizer
from graft.training.adapt.settings import AdaptSettings
from graft.training.finetune.memory import MOMENT_BYTES, Adapted
from graft.training.finetune.positions import beyond_positions, longest_row
from graft.training.finetune.skeleton import Frozen, Skeleton
from graft.training.launch.machine import Machine
from graft.training.model.configuration import num_positions
from graft.training.model.cost.activations import recomputed, told
from graft.training.model.cost.flops import flops_per_token
from graft.training.parallel.mesh import Mesh
from graft.training.runtime import markdown

BATCHES = (1, 2, 4, 8, 16, 32, 64)
UTILISATION = 0.4
"""For the speed, where nothing is measured yet."""


def plan(folder: Path, settings: AdaptSettings, machine: Machine, *, teacher: Frozen | None = None) -> str:
    """The plan in words and a table; of the folder its config.json is read. Raises ``ConfigurationError``."""
    skeleton = Skeleton.of(folder, settings)
    base, method, adapted = skeleton.base, skeleton.method, skeleton.adapted
    if teacher is not None:
        adapted = replace(adapted, beside_bytes=teacher.num_bytes)
    config, mesh = adapted.model.config, settings.mesh(machine.num)
    warn_of_unused(method, settings)
    check_beside_rows(method, mesh, packing=settings.packs)
    check_optimizer(settings, machine.kind)
    check_mesh(config, settings, mesh, own=skeleton.own, form=adapted.form, num_processes=machine.num)
    length = longest_row(settings.max_length, num_positions(config))
    num_rows, length = _lines(settings, length)
    per_token = flops_per_token(adapted.model, length)
    lines = [
        f"{folder.name} in {adapted.form}: {_count(skeleton.num_parameters)} parameters, "
        f"{_size(adapted.base_bytes_on(mesh))} on a device{_sharing(adapted, mesh)}",
        f"{method.name}: {_count(adapted.num_adapter)} parameters learn",
        f"serving: {method.way(base)}",
        *([] if teacher is None else [f"the teacher, {teacher}, lies on every device and is counted with the base"]),
        f"memory: {machine.said}",
    ]
    if machine.peak is not None and per_token is not None:
        speed = UTILISATION * machine.peak / per_token
        lines.append(
            f"at {UTILISATION:.0%} MFU about {speed:,.0f} tokens/s; 4-bit weights that are made plain cost more"
        )
    if said := beyond_positions(folder.name, num_positions(config), length + method.num_ahead):
        lines.append(said)
    lines += told(adapted.activations(num_rows, length))
    return "\n".join([*lines, "", *_table(adapted, settings, machine, mesh, length, num_rows)])


def _lines(settings: AdaptSettings, length: int) -> tuple[int, int]:
    """How many stand in a forward pass, and their tokens. A budget of tokens is filled with lines of that length, or
    is one that is shorter.
    """
    budget = getattr(settings, "max_tokens_per_batch", None)
    if budget is None:
        return settings.per_device_train_batch_size, length
    return max(1, budget // length), min(budget, length)


def _count(num: int) -> str:
    if num >= 1e9:
        return f"{num / 1e9:,.2f}B"
    return f"{num / 1e6:,.1f}M" if num >= 1e6 else f"{num:,}"


def _size(num_bytes: float) -> str:
    """Of small bases, too, more than a zero is told."""
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.2f} MB"


def _sharing(adapted: Adapted, mesh: Mesh) -> str:
    if not mesh.shards_weights:
        return ""
    return f": its share of {_size(adapted.base_bytes)} among {mesh.dp_shard}, and what is gathered at a time"


def _table(
    adapted: Adapted, settings: AdaptSettings, machine: Machine, mesh: Mesh, length: int, num_rows: int
) -> Iterator[str]:
    rows, largest = [], dict[bool, int]()
    smallest = float("inf")
    for is_checkpointed in (False, True):
        for batch in sorted({*BATCHES, num_rows}):
            need = adapted.memory(rows=batch, length=length, recomputes=is_checkpointed, device=machine.kind, mesh=mesh)
            smallest, fits = min(smallest, need.total), need.total < machine.usable
            if fits:
                largest[is_checkpointed] = batch
            is_said = recomputed(adapted.model, settings.gradient_checkpointing) != "none"
            chosen = (batch, is_checkpointed) == (num_rows, is_said)
            parts = (need.base, need.adapter, need.activations, need.besides, need.total)
            verdict = ("yes" if fits else "no") + (", chosen" if chosen else "")
            again = "yes" if is_checkpointed else "no"
            rows.append([batch, length, again, *(f"{one / 1e9:.3g}" for one in parts), verdict])
    head = "rows | tokens each | computed again | base | adapter | activations | besides | GB | fits"
    yield markdown.table(head, rows)
    yield ""
    yield _verdict(largest, smallest, machine, adapted, settings)


def _verdict(
    largest: dict[bool, int], smallest: float, machine: Machine, adapted: Adapted, settings: AdaptSettings
) -> str:
    if not largest:
        least = f"the least is {smallest / 1e9:.3g} GB of {machine.usable / 1e9:.3g}"
        return f"nothing fits: {least}; {', '.join(_ways(adapted, settings))}, or take a larger device"
    said = {False: "without computing blocks again", True: "with --gradient-checkpointing"}
    told = [f"{largest[key]} {words}" for key, words in said.items() if key in largest]
    return f"the largest --per-device-train-batch-size of these that fits is {', '.join(told)}"


def _ways(adapted: Adapted, settings: AdaptSettings) -> list[str]:
    """To a smaller training, when one row does not fit."""
    ways = ["lower --max-length"]
    if settings.method in ("full", "bitfit"):
        ways.append("take --method lora, whose base is held in 4 bits, or fewer --trainable-layers")
    elif adapted.form is not ServingForm.NF4:
        ways.append("take --load-in-4bit")
    elif not adapted.is_double_quantized:
        ways.append("take --bnb-4bit-use-double-quant")
    if settings.optim == "adamw" and adapted.num_adapter * MOMENT_BYTES["adamw"] > 0.05 * adapted.base_bytes:
        ways.append("take --optim adamw_8bit, or paged_adamw_8bit on a GPU")
    return [*ways, "share the base among devices (--dp-shard)"]
