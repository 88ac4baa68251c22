"""What every training on a base can be told: by which method it learns, and in which form the base is held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graft.adapters.form import ServingForm
from graft.training.settings.limits import (
    BELOW_1,
    NOT_NEGATIVE,
    POSITIVE,
    Limit,
    at_least,
    between,
    one_of,
)
from graft.training.settings.settings import TrainingSettings, setting

MAX_RANK = 512
_RANK = Limit(holds=lambda rank: 1 <= rank <= MAX_RANK, text=f"from 1 to {MAX_RANK}, the largest rank of the engine")
OF_METHODS = frozenset(
    (
        *("r", "lora_alpha", "lora_dropout", "target_modules", "layers_to_transform", "rank_pattern", "alpha_pattern"),
        *("use_rslora", "loraplus_lr_ratio", "pissa_niter", "init_r", "target_r", "tinit", "tfinal", "deltaT"),
        *("orth_reg_weight", "decompose_factor", "feedforward_modules", "oft_block_size", "trainable_tokens"),
        *("num_virtual_tokens", "prompt_tuning_init_text", "encoder_hidden_size", "encoder_reparameterization_type"),
        *("prefix_projection", "reduction_factor", "adapter_act", "trainable_layers", "trainable_parameters"),
    )
)
"""Settings that some methods look at and others do not."""
METHODS = (
    *("lora", "rslora", "dora", "lora+", "pissa", "olora", "adalora", "loha", "lokr", "vera", "ia3", "oft"),
    *("trainable_tokens", "prefix_tuning", "prompt_tuning", "p_tuning", "multitask_prompt_tuning"),
    *("houlsby", "pfeiffer", "bitfit", "full"),
)
_QLORA = "lora with the base in 4 bits, as by default"
_METHOD = Limit(holds=lambda name: name in METHODS, text=f"one of {', '.join(METHODS)} (QLoRA is {_QLORA})")
PROMPT_METHODS = frozenset(("prefix_tuning", "prompt_tuning", "p_tuning", "multitask_prompt_tuning"))
"""Vectors stand before each row, so that each has a line of its own."""
OPTIMIZERS = ("adamw", "adamw_8bit", "paged_adamw_8bit")
_MAX_VIRTUAL, _MAX_SIZE = 1 << 14, 1 << 20


@dataclass(frozen=True, kw_only=True)
class AdaptSettings(TrainingSettings):
    """Settings of one training on a base."""

    method: str = setting("lora", f"how the base learns: {', '.join(METHODS)}; QLoRA is {_QLORA}", _METHOD)
    start: str | None = setting(
        None, "lora: the folder of an adapter to go on from, whose layers, ranks and scale are taken with its weights"
    )
    r: int = setting(16, "rank", _RANK)
    lora_alpha: float = setting(32.0, "scale of the adapter, divided by the rank", POSITIVE)
    lora_dropout: float = setting(0.0, "share of an adapter's inputs left out in training", BELOW_1)
    target_modules: tuple[str, ...] | str | None = setting(
        None,
        "names of layers, or a regular expression for whole paths; default: every linear layer of the blocks",
    )
    layers_to_transform: tuple[int, ...] | None = setting(None, "numbers of the blocks whose layers learn, as 0,3,8-11")
    rank_pattern: Mapping[str, int] | None = setting(None, "other ranks of some layers, as q_proj=8,up_proj=4")
    alpha_pattern: Mapping[str, float] | None = setting(None, "other values of lora_alpha, in the same way")
    use_rslora: bool = setting(False, "divide lora_alpha by the rank's root")
    loraplus_lr_ratio: float = setting(16.0, "lora+: the learning rate of B, as a multiple of A's", POSITIVE)
    pissa_niter: int | None = setting(
        None, "pissa: steps of a fast singular value decomposition in place of the exact one", between(1, 1000)
    )
    init_r: int = setting(12, "adalora: rank of each layer at first", _RANK)
    target_r: int = setting(8, "adalora: rank of the layers at last, on average", _RANK)
    tinit: int = setting(0, "adalora: steps before ranks are taken away", NOT_NEGATIVE)
    tfinal: int = setting(0, "adalora: steps after the last rank was taken away", NOT_NEGATIVE)
    deltaT: int = setting(1, "adalora: steps from one taking away to the next", at_least(1))
    orth_reg_weight: float = setting(0.5, "adalora: weight of what keeps its vectors orthogonal", NOT_NEGATIVE)
    decompose_factor: int = setting(
        -1,
        "lokr: size of the first factor; -1 makes the factors as equal as can be",
        Limit(holds=lambda factor: factor == -1 or factor >= 1, text="-1, or 1 or more"),
    )
    feedforward_modules: tuple[str, ...] | None = setting(
        None, "ia3: those of the target modules whose inputs are scaled, not their outputs"
    )
    oft_block_size: int = setting(32, "oft: inputs that are turned together", between(2, _MAX_SIZE))
    trainable_tokens: tuple[str, ...] | None = setting(
        None, "trainable_tokens: tokens, or their numbers, whose embeddings are learned"
    )
    num_virtual_tokens: int = setting(20, "prompt methods: vectors before each row", between(1, _MAX_VIRTUAL))
    prompt_tuning_init_text: str | None = setting(
        None, "prompt_tuning: words to begin with", Limit(holds=lambda text: bool(text.strip()), text="words")
    )
    encoder_hidden_size: int | None = setting(
        None,
        "p_tuning, prefix_tuning: width of the network that makes the vectors; default: the base's",
        between(1, _MAX_SIZE),
    )
    encoder_reparameterization_type: str = setting("MLP", "p_tuning: MLP or LSTM", one_of("MLP", "LSTM"))
    prefix_projection: bool = setting(False, "prefix_tuning: have a network make the vectors")
    reduction_factor: float = setting(16.0, "houlsby, pfeiffer: the base's width by the adapters'", POSITIVE)
    adapter_act: str = setting("gelu", "houlsby, pfeiffer: gelu, relu or silu", one_of("gelu", "relu", "silu"))
    trainable_layers: int | None = setting(None, "full: the last blocks that learn; the rest is frozen", at_least(1))
    trainable_parameters: str | None = setting(
        None, "full: a regular expression for the whole names of the parameters that learn"
    )
    optim: str = setting("adamw", f"{', '.join(OPTIMIZERS)} (for GPUs)", one_of(*OPTIMIZERS))
    load_in_4bit: bool | None = setting(
        None,
        "NF4, as the base is served by default; false trains on bfloat16, as bitfit and full do",
    )
    load_in_8bit: bool = setting(False, "LLM.int8 instead of NF4")
    bnb_4bit_quant_type: str = setting("nf4", "the form of 4-bit numbers", one_of("nf4"))
    bnb_4bit_use_double_quant: bool = setting(False, "quantize the quantization's scales")
    bnb_4bit_compute_dtype: str = setting("bfloat16", "what 4-bit weights are multiplied in", one_of("bfloat16"))
    report_examples: int = setting(3, "answers before and after in report.html", between(0, 20))

    @property
    def packs(self) -> bool:
        """Whether several rows may stand in one line of a batch."""
        return True

    @property
    def form(self) -> ServingForm:
        """In which plain weights are held."""
        if self.load_in_8bit:
            return ServingForm.LLM_INT8
        learns_itself = self.method in ("full", "bitfit")
        is_4bit = not learns_itself if self.load_in_4bit is None else self.load_in_4bit
        return ServingForm.NF4 if is_4bit else ServingForm.BF16
