"""What an adapter says on a base that is larger than memory should be asked for: transformers' own modules, one by one.

A module has its weights only while it runs: they are read from the safetensors files, cast (and, for NF4, quantized and
dequantized, as bitsandbytes' `Linear4bit` computes on a CPU), and let go. One pass over the base reads it once, so
memory is bounded by the largest module, and rows are scored but none is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from peft import PeftConfig, get_peft_model, set_peft_model_state_dict
from peft.utils import load_peft_weights
from safetensors import safe_open
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
from transformers.quantizers.base import get_keys_to_not_convert

from graft.adapters.base.files import loaded_files
from graft.adapters.folder.head import num_labels_in
from graft.adapters.folder.soft_prompt import virtual_tokens_in
from graft.server.parity.headed import head_rows, without_head
from graft.server.parity.oracle import Unmeasurable, check_placed, logprobs
from graft.server.parity.soft_caps import attention_of
from graft.server.parity.soft_prompted import SoftPrompted

Progress = Callable[[float], None]
_NAME = "adapter"


class LayeredOracle:
    """The base as a skeleton, and one adapter at a time."""

    def __init__(self, base: str, form: str, *, progress: Progress = lambda share: None) -> None:
        """`progress` hears which share of the base's parameters has been read, from 0 to 1. Raises `Unmeasurable`."""
        self._base, self._is_nf4 = base, form == "nf4"
        self._dtype = torch.float32 if form == "fp32" else torch.bfloat16
        self._progress = progress
        self._files = _Tensors(Path(base))

    def rows(self, *, folder: str, rows: Sequence[Sequence[int]]) -> list[dict[str, object]]:
        """Log-probabilities (natural) of every token of each row but its first, with the adapter in `folder`; of one
        with a head, what that says of the row's beginnings.

        Raises `Unmeasurable`, `ValueError` for tensors that belong to no module of the adapter's.
        """
        skeleton = self._skeleton()
        streams = list(self._streams(skeleton))
        share = _Share(len(rows) * sum(stream.num_parameters for stream in streams), self._progress)
        for stream in streams:
            stream.attach(share)
        is_soft = virtual_tokens_in(Path(folder)) > 0
        model = SoftPrompted(skeleton, folder) if is_soft else _adapted(skeleton, folder, self._dtype)
        with torch.inference_mode():
            if num_labels_in(Path(folder)):
                return [told for row in rows for told in head_rows(model, folder, row)]
            return [{"token_ids": list(row), "logprobs": logprobs(model, row)} for row in rows]

    def _skeleton(self) -> Any:
        config = AutoConfig.from_pretrained(self._base, local_files_only=True)
        if getattr(config, "quantization_config", None) is not None:
            raise Unmeasurable("the base's weights are quantized already, and are not read module by module")
        try:
            with init_empty_weights(include_buffers=False):
                attention = attention_of(config)
                return AutoModelForCausalLM.from_config(config, dtype=self._dtype, attn_implementation=attention).eval()
        except Exception as error:  # each architecture's class has checks and errors of its own
            raise Unmeasurable(f"transformers makes no model of the base: {error}") from error

    def _streams(self, model: Any) -> Iterator[_Stream]:
        """One for each module that has parameters of its own."""
        found = self._files.places(model)
        for one, other in model.all_tied_weights_keys.items():
            for name, twin in ((one, other), (other, one)):
                if name not in found and twin in found:
                    found[name] = found[twin]
        kept = set(get_keys_to_not_convert(model))
        for name, module in model.named_modules():
            parts = [part for part, _ in module.named_parameters(recurse=False)]
            if absent := [f"{name}.{part}" for part in parts if f"{name}.{part}" not in found]:
                raise Unmeasurable(f"the base's files hold no {absent[0]} that could be read alone")
            if parts:
                places = {part: found[f"{name}.{part}"] for part in parts}
                quantized = self._is_nf4 and type(module) is nn.Linear and name not in kept
                yield _Stream(module, places, self._files, self._dtype, quantized)


class _Stream:
    """The parameters of one module, there while its forward pass runs."""

    def __init__(
        self, module: nn.Module, places: Mapping[str, str], files: _Tensors, dtype: torch.dtype, quantized: bool
    ) -> None:
        self._module, self._places, self._files = module, places, files
        self._dtype, self._quantized = dtype, quantized
        self._absent = dict(module.named_parameters(recurse=False))
        self.num_parameters = sum(one.numel() for one in self._absent.values())

    def attach(self, share: _Share) -> None:
        """Let the module read its parameters before each pass and forget them after it."""

        def read(module: nn.Module, args: Any) -> None:
            for part, place in self._places.items():
                module._parameters[part] = nn.Parameter(self._read(part, place), requires_grad=False)

        def forget(module: nn.Module, args: Any, output: Any) -> None:
            module._parameters.update(self._absent)
            share.add(self.num_parameters)

        self._module.register_forward_pre_hook(read)
        self._module.register_forward_hook(forget)

    def _read(self, part: str, place: str) -> torch.Tensor:
        tensor = self._files.read(place)
        if tensor.shape != self._absent[part].shape:
            raise Unmeasurable(f"{place} has shape {list(tensor.shape)}, not {list(self._absent[part].shape)}")
        tensor = tensor.to(self._dtype)
        return _through_nf4(tensor) if self._quantized and part == "weight" else tensor


class _Tensors:
    """A folder's safetensors files by the names in them."""

    def __init__(self, folder: Path) -> None:
        files: list[Any] = [safe_open(str(path), framework="pt") for path in loaded_files(folder)]
        self._where: dict[str, Any] = {name: file for file in files for name in file.keys()}  # noqa: SIM118  # no mapping

    def places(self, model: Any) -> dict[str, str]:
        """The files' names by the model's: transformers renames some, and makes some parameters of several tensors,
        which are left out."""
        mapping = get_model_conversion_mapping(model)
        renamings = [one for one in mapping if isinstance(one, WeightRenaming)]
        converters = [one for one in mapping if isinstance(one, WeightConverter)]
        names = model.state_dict()
        places = {}
        for place in sorted(self._where):
            name, converted = rename_source_key(place, renamings, converters, model.base_model_prefix, names)
            if converted is None:
                places[name] = place
        return places

    def read(self, place: str) -> torch.Tensor:
        tensor: torch.Tensor = self._where[place].get_tensor(place)
        return tensor


class _Share:
    """How much of a whole has been done."""

    def __init__(self, whole: int, progress: Progress) -> None:
        self._whole, self._progress, self._done = max(whole, 1), progress, 0

    def add(self, part: int) -> None:
        self._done += part
        self._progress(min(1.0, self._done / self._whole))


def _through_nf4(weight: torch.Tensor) -> torch.Tensor:
    """NF4 and back (arXiv:2305.14314), blocks of 64, scales as they are."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    packed, state = quantize_4bit(weight.contiguous(), blocksize=64, quant_type="nf4", compress_statistics=False)
    restored: torch.Tensor = dequantize_4bit(packed, state)
    return restored.to(weight.dtype)


def _adapted(skeleton: Any, folder: str, dtype: torch.dtype) -> Any:
    """The adapter's modules are in memory, in the precision in which the engine holds them."""
    config = PeftConfig.from_pretrained(folder)
    config.init_lora_weights = True  # an update of zero where the file has no values
    weights = without_head(config, load_peft_weights(folder, device="cpu"))
    model = get_peft_model(skeleton, config, adapter_name=_NAME, autocast_adapter_dtype=False, low_cpu_mem_usage=True)
    names = [name for name, _ in model.named_parameters() if ".lora_" in name]
    for name in names:
        _put(model, name, torch.zeros(model.get_parameter(name).shape))
    placed = set_peft_model_state_dict(model, weights, adapter_name=_NAME)
    check_placed(placed.unexpected_keys)
    for name in names:
        _put(model, name, model.get_parameter(name).data.to(dtype))
    return model.eval()


def _put(model: nn.Module, name: str, data: torch.Tensor) -> None:
    owner, _, part = name.rpartition(".")
    model.get_submodule(owner)._parameters[part] = nn.Parameter(data, requires_grad=False)
