"""Making a base's folder in another form, with the identity of its origin."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from graft.adapters import base_files
from graft.adapters.base import Base, shipped_bases
from graft.adapters.form import ServingForm
from graft.adapters.graft_base_json import Calibration, QuantizedRecord
from graft.training.adapt.calibration import NUM_TOKENS, CalibrationText, quantize_blocks
from graft.training.adapt.gptq import gptq
from graft.training.adapt.llm_int8 import llm_int8_config
from graft.training.adapt.loading import load_base, load_tokenizer
from graft.training.adapt.nf4 import nf4_config
from graft.training.adapt.packed import packed_config, packed_tensors
from graft.training.adapt.rounding import IntegerWeight, round_to_nearest
from graft.training.corpus.mixture import ROOTSTOCK
from graft.training.errors import ConfigurationError
from graft.training.export import put_in_place
from graft.training.lineage import code_version

MADE = (ServingForm.NF4, ServingForm.LLM_INT8, ServingForm.INT8, ServingForm.INT4)
GROUP_SIZES = (128, 64, 32)
_TOOLS = ("torch", "transformers", "bitsandbytes", "compressed-tensors")
_NOT_COPIED = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.pt", "README.md", ".*")


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """One making of a folder. ``text`` calibrates int4; the shipped bases bring their own, others need it."""

    base: Base
    form: ServingForm
    output: Path
    text: CalibrationText | None = None
    num_tokens: int = NUM_TOKENS
    """Of the calibration text."""
    group_size: int | None = None
    """Inputs per scale, int4 only; default: the largest of 128, 64 and 32 that divides every layer."""

    def execute(self) -> Base:
        """Makes the folder and returns its base; nothing is left half-written.

        Raises:
            ConfigurationError, DataError: something to change, in one line.
            OSError: no space or no permission.
        """
        self._check()
        put_in_place(self.output, self._write)
        return Base.from_folder(self.output)

    def _check(self) -> None:
        if self.form not in MADE:
            raise ConfigurationError(f"form {self.form} is not a quantized one; choose {', '.join(MADE)}.")
        if self.base.form is not None:
            raise ConfigurationError(f"{self.base.path} is {self.base.form} already; quantize the plain base.")
        if self.output.exists():
            raise ConfigurationError(f"{self.output} exists; remove it, or choose another folder.")
        if self.form is not ServingForm.INT4 and (self.text is not None or self.group_size is not None):
            raise ConfigurationError(f"form {self.form} takes no calibration text and no group size, only int4 does.")
        if self.form is ServingForm.INT4 and self._calibration_text() is None:
            raise ConfigurationError(
                f"int4 is calibrated: add --calibration FILE with text like what {self.base.name} will be given."
            )

    def _write(self, folder: Path) -> None:
        calibration = None
        if self.form in (ServingForm.NF4, ServingForm.LLM_INT8):
            section = self._write_bitsandbytes(folder)
        elif self.form is ServingForm.INT8:
            section = self._write_int8(folder)
        else:
            section, calibration = self._write_int4(folder)
        origin = self.base.path
        shutil.copytree(origin, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*_NOT_COPIED, "config.json"))
        config = json.loads((origin / "config.json").read_text(encoding="utf-8"))
        config |= {"dtype": "bfloat16", "quantization_config": section}
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(self._card(), encoding="utf-8")
        self._record(folder, calibration).write(folder)
        for path in folder.iterdir():  # safetensors writes its files for the owner alone
            path.chmod(0o755 if path.is_dir() else 0o644)

    def _write_bitsandbytes(self, folder: Path) -> dict[str, Any]:
        config = nf4_config(double_quantization=True) if self.form is ServingForm.NF4 else llm_int8_config()
        disable_progress_bar()
        model = AutoModelForCausalLM.from_pretrained(
            self.base.path, dtype=torch.bfloat16, quantization_config=config, local_files_only=True
        )
        model.save_pretrained(folder)
        written: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        section: dict[str, Any] = written["quantization_config"]
        return section

    def _write_int8(self, folder: Path) -> dict[str, Any]:
        model = load_base(self.base.path, ServingForm.BF16)
        layers = _layers(model)
        _require_widths(layers, 4)
        weights = {path: round_to_nearest(layer.weight, bits=8) for path, layer in layers.items()}
        _save(model, weights, folder)
        return packed_config(bits=8, group_size=None, plain=_plain(model, layers))

    def _write_int4(self, folder: Path) -> tuple[dict[str, Any], Calibration]:
        text = self._calibration_text()
        assert text is not None
        model = load_base(self.base.path, ServingForm.BF16)
        layers = _layers(model)
        _require_outputs(layers, 32)
        group_size = self._chosen_group_size(layers)
        batches = text.batches(
            load_tokenizer(self.base.path),
            num_tokens=self.num_tokens,
            context=int(getattr(model.config, "max_position_embeddings", self.num_tokens)),
        )
        weights: dict[str, IntegerWeight] = {}

        def quantize(path: str, layer: nn.Linear, hessian_II: Tensor) -> None:
            weights[path] = gptq(layer.weight, hessian_II, bits=4, group_size=group_size)
            layer.weight.data = weights[path].restored().to(layer.weight.dtype)

        quantize_blocks(model, layers, batches, quantize)
        _save(model, weights, folder)
        section = packed_config(bits=4, group_size=group_size, plain=_plain(model, layers))
        return section, text.record(batches)

    def _calibration_text(self) -> CalibrationText | None:
        if self.text is None and self.base.path in shipped_bases().values():
            return CalibrationText.generated(ROOTSTOCK)
        return self.text

    def _chosen_group_size(self, layers: Mapping[str, nn.Linear]) -> int:
        sizes = GROUP_SIZES if self.group_size is None else (self.group_size,)
        for size in sizes:
            if all(layer.in_features % size == 0 for layer in layers.values()):
                return size
        _require_widths(layers, sizes[-1])
        raise AssertionError

    def _record(self, folder: Path, calibration: Calibration | None) -> QuantizedRecord:
        return QuantizedRecord(
            base=self.base.reference(),
            form=self.form,
            modules=self.base.modules,
            num_parameters=self.base.num_parameters,
            files=base_files.recorded_hashes(folder),
            calibration=calibration,
            tools={"graftserve": code_version(), **{name: version(name) for name in _TOOLS}},
        )

    def _card(self) -> str:
        return (
            f"# {self.base.name}, {self.form}\n\n"
            f"Made by `graft quantize` from the base {self.base.digest}, whose identity it keeps: adapters that were "
            f"trained on {self.base.name} as {self.form} fit. Where it comes from stands in `graft_base.json`.\n"
        )


def _layers(model: PreTrainedModel) -> dict[str, nn.Linear]:
    """The linear layers of the blocks, by path: all but the output head."""
    head = model.get_output_embeddings()
    return {
        path: module for path, module in model.named_modules() if isinstance(module, nn.Linear) and module is not head
    }


def _plain(model: PreTrainedModel, layers: Mapping[str, nn.Linear]) -> list[str]:
    return [path for path, module in model.named_modules() if isinstance(module, nn.Linear) and path not in layers]


def _require_widths(layers: Mapping[str, nn.Linear], divisor: int) -> None:
    for path, layer in layers.items():
        if layer.in_features % divisor:
            raise ConfigurationError(
                f"{path} has {layer.in_features} inputs, which {divisor} does not divide; this form needs that."
            )


def _require_outputs(layers: Mapping[str, nn.Linear], divisor: int) -> None:
    """The engine's 4-bit kernels work on so many outputs at a time."""
    for path, layer in layers.items():
        if layer.out_features % divisor:
            raise ConfigurationError(
                f"{path} has {layer.out_features} outputs, which {divisor} does not divide; int4 needs that."
            )


def _save(model: PreTrainedModel, weights: Mapping[str, IntegerWeight], folder: Path) -> None:
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    for path, weight in weights.items():
        del tensors[f"{path}.weight"]
        tensors |= packed_tensors(path, weight)
    save_torch_state_dict(tensors, folder)
