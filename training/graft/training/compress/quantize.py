"""Making a base's folder in another form, with the identity of its origin."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from safetensors import safe_open
from torch import Tensor, nn

from graft.adapters.base import files as base_files
from graft.adapters.base.base import Base
from graft.adapters.base.hub_id import shown
from graft.adapters.base.numbers import check_numbers
from graft.adapters.base.output_head import own_head
from graft.adapters.base.pruned import PrunedRecord
from graft.adapters.base.quantized import Calibration, QuantizedRecord
from graft.adapters.form import ServingForm
from graft.training.compress.blocks import change_blocks
from graft.training.compress.calibration import NUM_TOKENS, CalibrationText
from graft.training.compress.decoder import Decoder
from graft.training.compress.gptq import gptq
from graft.training.compress.packed import packed_config, packed_tensors
from graft.training.compress.rounding import IntegerWeight, round_to_nearest
from graft.training.compress.share import outside_form, summary
from graft.training.errors import ConfigurationError
from graft.training.job.beside import copy_beside_weights
from graft.training.job.export import make_readable, put_in_place
from graft.training.job.lineage import code_version
from graft.training.model.loading import CPU, load_tokenizer
from graft.training.model.quantized import llm_int8_config, llm_int8_tensors, nf4_config, nf4_tensors
from graft.training.model.structure import Structure
from graft.training.runtime.device import device_kind, own_device
from graft.training.runtime.disk import AGAIN, check_makeable

MADE = (ServingForm.NF4, ServingForm.LLM_INT8, ServingForm.INT8, ServingForm.INT4)
GROUP_SIZES = (128, 64, 32)
_TOOLS = ("torch", "transformers", "bitsandbytes", "compressed-tensors")

_Made = dict[str, dict[str, Tensor]]
"""By a layer's path, the tensors that stand for its weight."""


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
            InvalidBase: weights that are not finite.
            OSError: no space or no permission.
        """
        self._check()
        structure = Structure.of(self.base)
        self._require_sizes(structure)
        check_numbers(self.base.path, leftovers=structure.leftovers)
        put_in_place(self.output, lambda folder: self._write(folder, structure), remedy=AGAIN)
        return Base.from_folder(self.output)

    def _check(self) -> None:
        if self.form not in MADE:
            raise ConfigurationError(f"form {self.form} is not a quantized one; choose {', '.join(MADE)}.")
        if self.base.form is not None:
            raise ConfigurationError(f"{self.base.path} is {self.base.form} already; quantize the plain base.")
        if self.output.exists():
            raise ConfigurationError(f"--output {self.output} exists; remove it, or choose another folder.")
        check_makeable(self.output, "--output")
        if self.form is not ServingForm.INT4 and (self.text is not None or self.group_size is not None):
            raise ConfigurationError(f"form {self.form} takes no calibration text and no group size, only int4 does.")
        if self.form is ServingForm.INT4 and self.text is None:
            raise ConfigurationError(
                f"int4 is calibrated: add --calibration FILE with text like what {self.base.name} will be given."
            )

    def _write(self, folder: Path, structure: Structure) -> None:
        tensors = {
            name: one.to(torch.bfloat16) if one.is_floating_point() else one
            for name, one in self._tensors(structure.leftovers)
        }
        calibration = None
        if self.form is ServingForm.INT4:
            made, section, calibration = self._int4(structure)
        else:
            made, section = self._uncalibrated(structure, tensors)
        for path, parts in made.items():
            del tensors[f"{path}.weight"]
            tensors |= parts
        save_torch_state_dict(tensors, folder)
        self._copy_the_rest(folder, structure, section)
        (folder / "README.md").write_text(self._card(folder), encoding="utf-8")
        self._record(folder, calibration).write(folder)
        make_readable(folder)

    def _tensors(self, leftovers: frozenset[str]) -> Iterator[tuple[str, Tensor]]:
        """The origin's, under the names that its files give them: transformers renames some in memory."""
        for path in base_files.loaded_files(self.base.path):
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118, it is no dictionary
                    if name in leftovers:
                        continue
                    yield name, file.get_tensor(name)

    def _uncalibrated(self, structure: Structure, tensors: Mapping[str, Tensor]) -> tuple[_Made, dict[str, Any]]:
        weights = {path: tensors[f"{path}.weight"] for path in structure.layers}
        if self.form is ServingForm.NF4:
            section = nf4_config(double_quantization=True).to_dict()
            return {path: nf4_tensors(path, weight) for path, weight in weights.items()}, section
        if self.form is ServingForm.LLM_INT8:
            return {path: llm_int8_tensors(path, one) for path, one in weights.items()}, llm_int8_config().to_dict()
        made = {path: packed_tensors(path, round_to_nearest(one, bits=8)) for path, one in weights.items()}
        return made, packed_config(bits=8, group_size=None, plain=structure.plain)

    def _int4(self, structure: Structure) -> tuple[_Made, dict[str, Any], Calibration]:
        text = self.text
        assert text is not None
        decoder = Decoder.of(self.base.path, torch.bfloat16)
        group_size = self._chosen_group_size(structure)
        batches = text.batches(
            load_tokenizer(self.base.path),
            num_tokens=self.num_tokens,
            context=int(getattr(decoder.model.config, "max_position_embeddings", self.num_tokens)),
        )
        weights: dict[str, IntegerWeight] = {}

        def quantize(path: str, layer: nn.Linear, hessian_II: Tensor) -> None:
            weights[path] = gptq(layer.weight, hessian_II, bits=4, group_size=group_size, keep_zeros=self._is_pruned)
            layer.weight.copy_(weights[path].restored())
            weights[path] = weights[path].to(CPU)

        change_blocks(
            decoder, structure.layers, batches, quantize, doing="calibrating", device=own_device(device_kind())
        )
        made = {path: packed_tensors(path, weight) for path, weight in weights.items()}
        section = packed_config(bits=4, group_size=group_size, plain=structure.plain)
        num_tokens = sum(batch.numel() for batch in batches)
        return made, section, Calibration(data_digest=text.digest, num_tokens=num_tokens)

    @property
    def _is_pruned(self) -> bool:
        record = PrunedRecord.read(self.base.path)
        return record is not None and record.weights_digest == self.base.identity.weights_digest

    def _copy_the_rest(self, folder: Path, structure: Structure, section: Mapping[str, Any]) -> None:
        copy_beside_weights(self.base.path, folder)
        config = json.loads((self.base.path / "config.json").read_text(encoding="utf-8"))
        config |= {"dtype": "bfloat16", "quantization_config": section}
        if structure.tied and own_head(self.base.path) is not None:
            config["tie_word_embeddings"] = False  # as transformers reads such files; engines would drop the head
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def _require_sizes(self, structure: Structure) -> None:
        """What the engine's kernels and the formats need, before anything is read."""
        if self.form is ServingForm.INT8:
            structure.require(inputs=4, outputs=1, form="int8")
        elif self.form is ServingForm.INT4:
            structure.require(inputs=1, outputs=32, form="int4")
            self._chosen_group_size(structure)

    def _chosen_group_size(self, structure: Structure) -> int:
        sizes = GROUP_SIZES if self.group_size is None else (self.group_size,)
        for size in sizes:
            if all(inputs % size == 0 for _, inputs in structure.layers.values()):
                return size
        structure.require(inputs=sizes[-1], outputs=1, form="int4")
        raise AssertionError

    def _record(self, folder: Path, calibration: Calibration | None) -> QuantizedRecord:
        return QuantizedRecord(
            base=self.base.identity,
            form=self.form,
            modules=self.base.modules,
            num_parameters=self.base.num_parameters,
            files=base_files.recorded_hashes(folder),
            calibration=calibration,
            tools={"graftserve": code_version(), **{name: version(name) for name in _TOOLS}},
        )

    def _card(self, folder: Path) -> str:
        return (
            f"# {self.base.name}, {self.form}\n\n"
            f"Made by `graft quantize` from {shown(self.base.path)}, the base {self.base.digest}, whose identity it "
            f"keeps: adapters that were trained on {self.base.name} as {self.form} fit. Where it comes from "
            "stands in `graft_base.json`.\n\n"
            f"{summary(outside_form(self.base.path, folder))}.\n"
        )
