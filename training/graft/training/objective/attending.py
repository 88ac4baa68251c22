"""Which attention a training computes with: what is asked for where that can be, else a refusal at its start."""

from __future__ import annotations

import copy
import importlib.util
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from graft.training.errors import ConfigurationError
from graft.training.model.attention import varlen
from graft.training.model.attention.in_blocks import PLAIN_NAME, register_plain
from graft.training.model.attention.soft_caps import has_soft_caps
from graft.training.model.attention.varlen_kernels import kernel_for
from graft.training.model.casting import cast
from graft.training.objective.masks import FLASH, FLEX, decoder_of, reaches

_log = logging.getLogger(__name__)
_PROBE = "graft_probe"
_LENGTH = 8
"""Tokens of the row that a model without weights is asked about."""


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """Where and what for a model attends."""

    device: str
    """``cpu`` or ``cuda``."""
    dtype: torch.dtype
    reads_documents: bool = True
    """Its batches are rows of whole documents, read causally."""
    learns_rows: bool = False
    """Its documents are rows that are learned on a base, of which lines hold several."""
    is_split: bool = False
    """Each process has a part of every row (context parallelism)."""
    is_staged: bool = False
    """Each process has some of the layers (pipeline parallelism)."""


def choose_attention(model: nn.Module, wanted: str, circumstances: Circumstances) -> None:
    """From now on the models in it attend so. ``auto`` is by documents where that can be on a GPU, and on a CPU while
    rows are learned; and as the model's class does elsewhere.

    Raises ``ConfigurationError`` with the reason where what is wanted cannot be.
    """
    if wanted == "auto":
        _choose_best(model, circumstances)
        return
    if (reason := _REASONS[wanted](decoder_of(model), circumstances)) is not None:
        kind = decoder_of(model).config.model_type
        raise ConfigurationError(f"attn_implementation {wanted!r} cannot be used for a {kind}: {reason}.")
    _set(model, {"sdpa": PLAIN_NAME, "varlen": varlen.NAME}.get(wanted, wanted))


def _choose_best(model: nn.Module, circumstances: Circumstances) -> None:
    if not circumstances.reads_documents or (circumstances.device == "cpu" and not circumstances.learns_rows):
        return
    if (reason := _against_varlen(decoder_of(model), circumstances)) is not None:
        _log.info("attention goes by masks, not by where documents begin: %s", reason)
        return
    _set(model, varlen.NAME)


def _set(model: nn.Module, name: str) -> None:
    varlen.register()
    register_plain()
    for one in model.modules():
        if isinstance(one, PreTrainedModel):
            one.config._attn_implementation = name


def _against_sdpa(decoder: PreTrainedModel, circumstances: Circumstances) -> str | None:
    if not decoder._supports_sdpa:
        return "its class has none; take eager"
    if has_soft_caps(decoder.config):
        return "it would leave out the soft caps of its scores; take eager"
    return None


def _against_eager(decoder: PreTrainedModel, circumstances: Circumstances) -> str | None:
    return "cp gathers keys for sdpa and varlen only" if circumstances.is_split else None


def _against_parts(circumstances: Circumstances) -> str | None:
    return "cp and pp go with sdpa and varlen only" if circumstances.is_split or circumstances.is_staged else None


def _against_flash(decoder: PreTrainedModel, circumstances: Circumstances) -> str | None:
    if importlib.util.find_spec("flash_attn") is None:
        return "the package flash-attn is not installed; take varlen, which torch has"
    if circumstances.device != "cuda" or circumstances.dtype not in (torch.bfloat16, torch.float16):
        return "its kernels are for 16-bit numbers on CUDA devices; take sdpa"
    if not circumstances.reads_documents:
        return "it takes rows of whole documents only; take sdpa"
    return _against_parts(circumstances) or _against_offsets(decoder, circumstances)


def _against_flex(decoder: PreTrainedModel, circumstances: Circumstances) -> str | None:
    if circumstances.device != "cuda":
        return "torch has no backward pass of it for this device; take sdpa"
    if not decoder._supports_flex_attn:
        return "its class has none; take eager"
    return _against_parts(circumstances)


def _against_varlen(decoder: PreTrainedModel, circumstances: Circumstances) -> str | None:
    if not circumstances.reads_documents:
        return "it takes rows of whole documents only; take sdpa"
    if circumstances.device == "cuda" and torch.cuda.get_device_capability() < (8, 0):
        return "its kernels need a device of compute capability 8.0"
    if kernel_for(circumstances.device) is None:
        return "neither torch.nn.attention.varlen with windows nor flash-attn is installed"
    return _against_documents(decoder, circumstances)


def _against_documents(decoder: PreTrainedModel, circumstances: Circumstances) -> str | None:
    if not decoder._supports_sdpa:
        return "its class attends in eager only, as for sinks or biases of scores"
    if has_soft_caps(decoder.config):
        return "its scores have soft caps, which torch's kernels leave out"
    return _against_offsets(decoder, circumstances)


def check_handing_down(model: nn.Module, circumstances: Circumstances) -> None:
    """Raises ``ConfigurationError`` for a decoder that cannot compute batches of several trainings at once: one that
    does not hand down to its attention which there are, or whose positions depend on all that it is called with.
    """
    decoder = decoder_of(model)
    reason = _against_documents(decoder, circumstances)
    kinds = _rope_kinds(decoder) & _GLOBAL_ROPE
    if kinds:
        reason = f"the angles of its positions depend on the longest row ({', '.join(sorted(kinds))})"
    if reason is not None:
        kind = decoder.config.model_type
        raise ConfigurationError(f"several adapters of a {kind} cannot be trained at once: {reason}. Train one by one.")


_GLOBAL_ROPE = frozenset(("dynamic", "longrope"))


def _rope_kinds(decoder: PreTrainedModel) -> set[str]:
    """Of its rotary positions, which layers of several kinds may have in several ways."""
    found = getattr(decoder.config.get_text_config(), "rope_parameters", None) or {}
    each = [found, *(one for one in found.values() if isinstance(one, dict))]
    return {str(one["rope_type"]) for one in each if "rope_type" in one}


_REASONS: Mapping[str, Callable[[PreTrainedModel, Circumstances], str | None]] = {
    "sdpa": _against_sdpa,
    "eager": _against_eager,
    "varlen": _against_varlen,
    FLASH: _against_flash,
    FLEX: _against_flex,
}
IMPLEMENTATIONS = ("auto", *_REASONS)


@dataclass(frozen=True, kw_only=True)
class _Call:
    """What a layer's attention was called with."""

    window: int | None
    has_offsets: bool
    obstacle: str | None


def _against_offsets(decoder: PreTrainedModel, circumstances: Circumstances) -> str | None:
    """Why documents' offsets in place of masks would give other results; None also where some layers need masks."""
    if not (decoder._supports_flash_attn and decoder._supports_attention_backend):
        return "its class does not leave its attention to others"
    if any(reach.chunk is not None for reach in reaches(decoder).values()):
        return "its attention by chunks needs a mask"
    try:
        calls = _calls(decoder, circumstances)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        return f"its class cannot be asked without weights ({type(error).__name__})"
    if not calls or not all(call.has_offsets for call in calls):
        return "its class does not hand down where documents begin"
    if {call.window for call in calls} != {reach.window for reach in reaches(decoder).values()}:
        return "its layers do not say their window"
    obstacles = Counter(call.obstacle for call in calls if call.obstacle is not None)
    if len(list(obstacles.elements())) == len(calls) or (obstacles and circumstances.is_split):
        return f"its layers have {', '.join(obstacles)}"
    for reason, num in obstacles.items():
        _log.info("%d of %d layers attend by masks: %s", num, len(calls), reason)
    return None


def _calls(decoder: PreTrainedModel, circumstances: Circumstances) -> list[_Call]:
    """Of a row of one document, by a twin without weights."""
    calls: list[_Call] = []

    def record(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any = None, **options: Any
    ) -> tuple[Tensor, None]:
        shapes = (query.shape[-1], value.shape[-1])
        reason = varlen.obstacle(*shapes, dtype=circumstances.dtype, device=circumstances.device, **options)
        has_offsets = options.get("cu_seq_lens_q") is not None
        calls.append(_Call(window=options.get("sliding_window"), has_offsets=has_offsets, obstacle=reason))
        return query.new_zeros(*query.shape[:1], query.shape[2], query.shape[1], value.shape[-1]), None

    ALL_ATTENTION_FUNCTIONS.register(_PROBE, record)
    ALL_MASK_ATTENTION_FUNCTIONS.register(_PROBE, sdpa_mask)
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        made = type(decoder)(copy.deepcopy(decoder.config))
        twin = cast(made, torch.bfloat16).train()  # which experts' products need
        for one in twin.modules():
            if isinstance(one, PreTrainedModel):
                one.config._attn_implementation = _PROBE
        offsets = torch.tensor([0, _LENGTH], dtype=torch.int32)
        twin(
            input_ids=torch.zeros(1, _LENGTH, dtype=torch.long),
            position_ids=torch.arange(_LENGTH)[None],
            attention_mask=varlen.placeholder(1, offsets.device),
            use_cache=False,
            cu_seq_lens_q=offsets,
            cu_seq_lens_k=offsets,
            max_length_q=_LENGTH,
            max_length_k=_LENGTH,
        )
    return calls
