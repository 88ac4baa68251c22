"""Does an adapter fit a base and the server's limits? All reasons at once."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from graft.adapters.adapter import BaseIdentity
from graft.adapters.base.base import Base
from graft.adapters.errors import Reason
from graft.adapters.folder import head, lora_tensors, soft_prompt
from graft.adapters.folder.adaptable import NOT_LINEAR
from graft.adapters.folder.manifest import CONFIG_FILE, Manifest, is_lora
from graft.adapters.folder.peft_patterns import mapping_of
from graft.adapters.form import ServingForm

# Initialisations that only choose the first values. The others train against a changed base: PiSSA, OLoRA, LoftQ and
# CorDA change it again when PEFT loads them, LoRA-GA does not, so that even PEFT would answer as another model.
_PLAIN_INITIALISATIONS = {"gaussian", "eva", "orthogonal", "mica"}
# Larger factors before an update overflow the engine's 16-bit numbers, and NaN logits can hurt neighbours.
MAX_SCALE = 10_000
# Keys of adapter_config.json that do not change what a plain LoRA computes from its tensors.
_WITHOUT_EFFECT = {
    "alpha_pattern",
    "auto_mapping",
    "autocast_adapter_dtype",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_dropout",
    "lora_dtype",
    "lora_ga_config",
    "low_cpu_mem_usage",
    "megatron_core",
    "merge_weights",
    "modules_to_save",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "torch_dtype",
    "use_gradient_checkpointing",
    "use_rslora",
    "velora_config",
}
# How trainers call the rates at which they trained.
_RATE = re.compile(r"(^|_)lr(_|$)|learning_rate|weight_decay")
# What PEFT knows and no plain LoRA does: each changes what is computed from the tensors, or needs more of them.
_METHODS = {
    "alora_invocation_tokens",
    "arrow_config",
    "fan_in_fan_out",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "megatron_config",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What this server takes: the engine's largest rank, bytes of all files of a version together, and the virtual
    tokens that leave room in the context (0: no soft prompts), and the outputs of a head (0: no heads).
    """

    max_rank: int
    max_bytes: int
    max_virtual_tokens: int
    max_labels: int = 0


def incompatibilities(
    manifest: Manifest,
    base: Base,
    limits: Limits,
    *,
    declared_base: BaseIdentity | None,
    form: ServingForm,
    serving_form: ServingForm,
    is_noop: bool = False,
    allow_noop: bool = False,
    allow_other_quantization: bool = False,
) -> tuple[Reason, ...]:
    """Every reason why the adapter cannot be served on `base`; empty when it can.

    `declared_base` is what the trainer recorded, None when the importer states the base; `form` is the form it was
    trained on; `is_noop` is what `numbers.inspect_numbers` found.
    """
    # What matters first: on another base, or with another vocabulary, the rest follows from that.
    reasons = [
        *(_base_reasons(declared_base, base) if declared_base is not None else ()),
        *_kind_reasons(manifest, base, limits, compile_command(base.name, serving_form)),
        *_size_reasons(manifest, limits),
    ]
    if form != serving_form and not allow_other_quantization:
        problem = f"trained on the base as {form}, but this server holds it as {serving_form}"
        remedy = f"serve the base as {form}, or say allow_other_quantization"
        reasons.append(Reason(field="form", problem=problem, remedy=remedy))
    if is_noop and not allow_noop and (manifest.rank or manifest.num_virtual_tokens):
        problem = "all its updates are zero: it would answer exactly as the base does"
        if manifest.num_virtual_tokens:
            problem = "its virtual tokens are zero throughout: nothing was learned"
        elif manifest.num_labels:
            problem = "its head or all updates beside it are zero: nothing was learned"
        remedy = "train it, or say allow_noop for a policy before its first step"
        reasons.append(Reason(field="adapter_model.safetensors", problem=problem, remedy=remedy))
    return tuple(reasons)


def compile_command(base: str, form: ServingForm) -> str:
    """What makes of an adapter of another method something that is served on `base` in `form`; the adapter's own folder
    is for its sender to fill in.
    """
    flags = {ServingForm.LLM_INT8: " --load-in-8bit", ServingForm.BF16: " --no-load-in-4bit"}
    return f"graft compile FOLDER --base {base}{flags.get(form, '')} --output COMPILED"


def _kind_reasons(manifest: Manifest, base: Base, limits: Limits, compiles: str) -> Iterator[Reason]:
    if manifest.num_virtual_tokens:
        yield from _soft_prompt_reasons(manifest, base, limits)
    elif is_lora(manifest.config):
        yield from _lora_reasons(manifest, base, limits, compiles)
    else:
        kind = manifest.config.get("peft_type")
        problem = f"{kind!r:.80} is not LORA, which is what slots hold"
        remedy = f"make an adapter or a base of it first: {compiles}"
        if isinstance(kind, str) and kind in NOT_LINEAR:
            problem = f"{kind} cannot be served: {NOT_LINEAR[kind]}"
            remedy = "train one that has a linear form, such as LORA"
        yield Reason(field=f"{CONFIG_FILE}:peft_type", problem=problem, remedy=remedy)


def _lora_reasons(manifest: Manifest, base: Base, limits: Limits, compiles: str) -> Iterator[Reason]:
    yield from lora_tensors.vocabulary_mismatches(manifest, base)
    yield from _method_reasons(manifest.config, compiles)
    yield from _rank_reasons(manifest, limits)
    yield from _scale_reasons(manifest)
    yield from lora_tensors.mismatches(manifest, base)
    yield from head.mismatches(manifest.config, manifest.tensors, base, max_labels=limits.max_labels)


def _soft_prompt_reasons(manifest: Manifest, base: Base, limits: Limits) -> Iterator[Reason]:
    yield from _key_reasons(
        manifest.config, without_effect=soft_prompt.WITHOUT_EFFECT, known=frozenset(), remedy="train without it"
    )
    if saved := manifest.config.get("modules_to_save"):
        problem = f"{str(saved)[:200]}: whole modules are not served beside a soft prompt"
        remedy = "train without modules_to_save"
        yield Reason(field=f"{CONFIG_FILE}:modules_to_save", problem=problem, remedy=remedy)
    yield from soft_prompt.mismatches(
        manifest.config, manifest.tensors, base, max_virtual_tokens=limits.max_virtual_tokens
    )


def _method_reasons(config: Mapping[str, object], compiles: str) -> Iterator[Reason]:
    """Options of PEFT that the engine would ignore or get wrong."""
    if config.get("bias", "none") != "none":
        problem = f"{config['bias']!r}: trained biases are not served"
        remedy = f"train with bias='none', or make a base of it: {compiles}"
        yield Reason(field=f"{CONFIG_FILE}:bias", problem=problem, remedy=remedy)
    initialisation = config.get("init_lora_weights", True)
    if isinstance(initialisation, str) and initialisation.lower() not in _PLAIN_INITIALISATIONS:
        problem = f"{initialisation[:80]!r} changes the base's own weights (PiSSA, OLoRA, LoftQ, CorDA, LoRA-GA)"
        remedy = f"make a plain LoRA of it: {compiles}"
        yield Reason(field=f"{CONFIG_FILE}:init_lora_weights", problem=problem, remedy=remedy)
    compile_first = f"make a plain LoRA or a base of it first: {compiles}"
    yield from _key_reasons(config, without_effect=_WITHOUT_EFFECT, known=_METHODS, remedy=compile_first)


def _key_reasons(
    config: Mapping[str, object], *, without_effect: Collection[str], known: Collection[str], remedy: str
) -> Iterator[Reason]:
    """The keys that say something else than nothing, and are none of those without effect."""
    for key in sorted(config.keys() - without_effect):
        if config[key] in (None, False, 0, "", [], {}) or _RATE.search(key):
            continue
        problem, own = f"{str(config[key])[:200]} is not supported by this server", remedy
        if key not in known:
            problem = f"{str(config[key])[:200]} is unknown to this server"
            own = (
                f"if it only says how the adapter was trained, remove the key {key[:200]!r} from {CONFIG_FILE}; if it "
                f"changes what is computed, {remedy}"
            )
        yield Reason(field=f"{CONFIG_FILE}:{key[:200]}", problem=problem, remedy=own)


def _rank_reasons(manifest: Manifest, limits: Limits) -> Iterator[Reason]:
    for module, rank in {"r": manifest.rank, **manifest.rank_pattern}.items():
        if rank > limits.max_rank:
            field = module if module == "r" else f"rank_pattern:{module}"
            remedy = "train with a lower rank, or start the server with a higher one"
            problem = f"rank {rank} is above this server's limit of {limits.max_rank}"
            yield Reason(field=f"{CONFIG_FILE}:{field}", problem=problem, remedy=remedy)


def _size_reasons(manifest: Manifest, limits: Limits) -> Iterator[Reason]:
    if manifest.size_bytes > limits.max_bytes:
        problem = f"the files hold {manifest.size_bytes} bytes; the limit is {limits.max_bytes}"
        yield Reason(field="files", problem=problem, remedy="lower the rank or the number of target modules")


def _scale_reasons(manifest: Manifest) -> Iterator[Reason]:
    rank = min([manifest.rank, *manifest.rank_pattern.values()])
    divisor, name = (math.sqrt(rank), f"sqrt({rank})") if manifest.config.get("use_rslora") else (rank, str(rank))
    others = {
        f"alpha_pattern:{key}": float(str(alpha)) for key, alpha in mapping_of(manifest.config, "alpha_pattern").items()
    }
    for field, alpha in {"lora_alpha": manifest.alpha, **others}.items():
        if abs(alpha) / divisor > MAX_SCALE:
            problem = f"{alpha:g} / {name} is above the limit of {MAX_SCALE} in magnitude"
            yield Reason(field=f"{CONFIG_FILE}:{field}", problem=problem, remedy="train with a lower alpha")


def _base_reasons(trained: BaseIdentity, base: Base) -> Iterator[Reason]:
    remedy = f"serve the base that it was trained on ({trained.name}), or train on {base.name}"
    for part in trained.differences(base.identity):
        there, here = getattr(trained, f"{part}_digest"), getattr(base.identity, f"{part}_digest")
        problem = f"trained with {there or 'none'}, but the served base {base.name} has {here or 'none'}"
        yield Reason(field=f"base.{part}_digest", problem=problem, remedy=remedy)
