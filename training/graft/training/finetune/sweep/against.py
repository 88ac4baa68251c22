"""Why fine-tunings cannot be trained in one pass of their base."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graft.training.errors import ConfigurationError
from graft.training.finetune.settings import FinetuneSettings
from graft.training.finetune.sweep.grid import Wanted

COMMON = ("form", "bnb_4bit_use_double_quant", "attn_implementation", "gradient_checkpointing")
"""What is said of the base, which is there once."""
METHODS = frozenset(("lora", "rslora", "lora+"))
_ATTENTIONS = ("auto", "sdpa", "varlen")


def check_together(wanted: Sequence[Wanted], *, device: str) -> None:
    """Raises ``ConfigurationError`` with all that keeps them from one training, a line for each."""
    problems = [
        f"{name} says how the base is held, which all runs share: {', '.join(values)} cannot be trained together"
        for name in COMMON
        if len(values := sorted({str(getattr(one.settings, name)) for one in wanted})) > 1
    ]
    for one in wanted:
        problems += [f"run {one.name}: {reason}" for reason in _reasons(one.settings, device)]
    if problems:
        raise ConfigurationError("\n".join(["these runs cannot be trained together:", *problems]))


def _reasons(settings: FinetuneSettings, device: str) -> Iterator[str]:
    if settings.method not in METHODS:
        yield f"method {settings.method} changes more than LoRA's matrices; take {', '.join(sorted(METHODS))}"
    if settings.load_in_8bit:
        yield (
            "load_in_8bit chooses what stays in 16 bits by the rows of all runs, which would change each other; take "
            "load_in_4bit, or neither"
        )
    if settings.attn_implementation not in _ATTENTIONS:
        yield f"attn_implementation {settings.attn_implementation!r} is called once for all; take sdpa"
    if settings.neftune_noise_alpha:
        yield "neftune_noise_alpha draws noise for each pass, which all runs share; leave it out"
    if settings.torch_compile:
        yield "torch_compile would compile anew for other runs in each pass; leave it out"
    if settings.lora_dropout and (device != "cpu" or settings.gradient_checkpointing != "none"):
        yield "lora_dropout is drawn for each run on CPUs only, and without gradient_checkpointing; leave one out"
    if "wandb" in settings.report_to or settings.metrics_port is not None:
        yield "wandb and metrics_port tell of one run in a process; take tensorboard, or read metrics.jsonl"
    if settings.mesh(1).size > 1:
        yield "runs are trained together in one process; leave dp, tp, pp and cp out"
