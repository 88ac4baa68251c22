"""What several fine-tunings at once will take, from the base's configuration alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from graft.training.finetune.positions import longest_row
from graft.training.finetune.skeleton import Skeleton
from graft.training.finetune.sweep.against import check_together
from graft.training.finetune.sweep.grid import Wanted
from graft.training.launch.machine import Machine
from graft.training.model.configuration import num_positions
from graft.training.runtime import markdown


def plan(folder: Path, wanted: Sequence[Wanted], machine: Machine) -> str:
    """A line for each run, and what all take together on one device: the base once, and of each run its adapter and
    what its micro-batch leaves for the way back. Raises ``ConfigurationError``.
    """
    check_together(wanted, device=machine.kind)
    rows: list[list[object]] = []
    needs = []
    for one in wanted:
        settings = one.settings
        adapted = Skeleton.of(folder, settings).adapted
        length = longest_row(settings.max_length, num_positions(adapted.model.config))
        need = adapted.memory(
            rows=settings.per_device_train_batch_size,
            length=length,
            recomputes=str(settings.gradient_checkpointing),
            device=machine.kind,
        )
        needs.append(need)
        tokens = settings.per_device_train_batch_size * length
        told = [f"{value / 1e9:.3g}" for value in (need.adapter, need.activations)]
        rows.append([one.name, settings.r, f"{adapted.num_adapter / 1e6:,.2f}M", tokens, *told])
    base = needs[0].base
    adapters, activations, besides = (
        sum(getattr(one, part) for one in needs) for part in ("adapter", "activations", "besides")
    )
    total = base + adapters + activations + besides
    verdict = "fits" if total < machine.usable else "does not fit: take fewer runs, smaller batches or shorter rows"
    return "\n".join(
        [
            markdown.table("run | rank | parameters | tokens at most | adapter, GB | activations, GB", rows),
            "",
            f"memory: {machine.said}",
            f"base {base / 1e9:.3g} GB once, adapters {adapters / 1e9:.3g} GB, activations {activations / 1e9:.3g} GB, "
            f"besides {besides / 1e9:.3g} GB: {total / 1e9:.3g} GB at most, which {verdict}",
        ]
    )
