"""Which settings go with a base and a task."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from dataclasses import replace

from transformers import PretrainedConfig

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.training.errors import ConfigurationError
from graft.training.model.family import facts_of
from graft.training.parallel.mesh import Mesh
from graft.training.settings.ending import ends_by_measure
from graft.training.tasks.measured import LOSS
from graft.training.tasks.model import check_language
from graft.training.tasks.names import CHOICES, QUESTIONS, TEXT, TOKENS, WRITING
from graft.training.tasks.settings import FULL, LORA, TaskSettings

_log = logging.getLogger(__name__)


def decided(settings: TaskSettings, config: PretrainedConfig) -> TaskSettings:
    """With a method: LoRA for decoders, which a server has many adapters of, and all of the others' weights."""
    is_decoder = facts_of(config).kind == "decoder"
    method = settings.method or (LORA if is_decoder else FULL)
    is_4bit = settings.load_in_4bit
    if method == LORA and is_4bit is None:
        is_4bit = is_decoder
    return replace(settings, method=method, load_in_4bit=bool(is_4bit))


def is_served(settings: TaskSettings, config: PretrainedConfig) -> bool:
    """Whether a server takes the head: one for texts that a decoder learned by LoRA. ``settings`` are decided."""
    return (settings.task, settings.method, facts_of(config).kind) == (TEXT, LORA, "decoder")


def form_of(base: Base, settings: TaskSettings) -> ServingForm:
    if base.form is not None:
        return base.form
    if settings.method == FULL:
        return ServingForm.BF16 if settings.dtype == "bfloat16" else ServingForm.FP32
    return ServingForm.NF4 if settings.load_in_4bit else ServingForm.BF16


def check(base: Base, config: PretrainedConfig, settings: TaskSettings) -> None:
    """Raises ``ConfigurationError`` with every setting that does not go with the base or the task."""
    kind = facts_of(config).kind
    if reasons := list(_reasons(base, kind, settings)):
        raise ConfigurationError("; ".join(reasons) + ".")
    if settings.lm_coef:
        check_language(base, config)
    defaults = TaskSettings()
    for name, tasks in _OF_TASKS.items():
        if settings.task not in tasks and getattr(settings, name) != getattr(defaults, name):
            _log.warning("%s has no effect on %s", name, settings.task)
    if settings.metric_for_best_model != defaults.metric_for_best_model and not ends_by_measure(settings):
        _log.warning("metric_for_best_model has no effect: add --load-best-model-at-end or --early-stopping-patience")
    others = _OF_FULL if settings.method == LORA else _OF_LORA
    for name in others:
        if getattr(settings, name) != getattr(defaults, name):
            _log.warning("%s has no effect with method %s", name, settings.method)


_OF_TASKS = {
    "problem_type": (TEXT,),
    "long_rows": (TEXT, TOKENS, CHOICES, WRITING),
    "label_names": (TEXT, TOKENS),
    "doc_stride": (QUESTIONS,),
    "max_answer_length": (QUESTIONS,),
    **dict.fromkeys(("source_prefix", "max_target_length", "num_beams"), (WRITING,)),
}
_OF_LORA = ("r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora")
_OF_FULL = ("dtype",)


def _reasons(base: Base, kind: str, settings: TaskSettings) -> Iterator[str]:
    if settings.method == FULL and base.form is not None:
        yield (
            f"the weights of {base.name} are {base.form} already, which cannot be learned: take the plain base, or "
            "--method lora"
        )
    if settings.load_in_4bit and (kind != "decoder" or settings.method == FULL):
        yield "load_in_4bit is for decoders with --method lora: leave it out"
    if settings.task == WRITING and kind != "encoder-decoder":
        yield (
            f"{WRITING} is for encoder-decoders such as t5 and bart; of a decoder it is what graft finetune without "
            "--task does"
        )
    if settings.delimiter_tokens and (kind != "decoder" or settings.task not in (TEXT, CHOICES)):
        yield f"delimiter_tokens is for decoders with {TEXT} and {CHOICES}: leave it out"
    if settings.lm_coef and settings.task != TEXT:
        yield f"lm_coef is for {TEXT}: leave it out"
    for name in ("delimiter_tokens", "lm_coef"):
        if getattr(settings, name) and settings.method != FULL:
            yield f"{name} needs --method full: what it learns lies in no adapter"


def check_metric(name: str, measures: Collection[str]) -> None:
    """Raises ``ConfigurationError`` for a measure that a task has not."""
    if name not in (LOSS, *measures):
        raise ConfigurationError(
            f"setting 'metric_for_best_model' has the value {name!r}; this task has {', '.join((LOSS, *measures))}."
        )


def check_mesh(config: PretrainedConfig, settings: TaskSettings, mesh: Mesh, num_processes: int) -> None:
    reasons = [
        f"{axis} cannot split a task's model; use dp_replicate"
        for axis in ("pp", "cp", "tp")
        if getattr(mesh, axis) > 1
    ]
    if mesh.shards_weights:
        reasons.append(
            f"a task's model is whole in each process: take dp_replicate {num_processes}, or zero_stage 1 to share out "
            "the optimizer's state"
        )
    accumulated = settings.gradient_accumulation_steps * mesh.dp
    mesh.check(config, num_processes=num_processes, batches_per_step=accumulated, further=reasons)
