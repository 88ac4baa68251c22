"""Making a base's folder with zeros in the layers of its blocks: a base of its own, of the same class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from graft.adapters.base import files as base_files
from graft.adapters.base.base import Base
from graft.adapters.base.hub_id import shown
from graft.adapters.base.numbers import check_numbers
from graft.adapters.base.pruned import FILE_NAME, PrunedLayer, PrunedRecord
from graft.adapters.base.quantized import Calibration
from graft.training.compress.blocks import change_blocks
from graft.training.compress.calibration import NUM_TOKENS, CalibrationText
from graft.training.compress.columns import output_error
from graft.training.compress.decoder import Decoder, path_of_blocks
from graft.training.compress.prune.scored import magnitude, wanda
from graft.training.compress.prune.sparsegpt import sparsegpt
from graft.training.compress.prune.sparsity import Sparsity
from graft.training.compress.prune.told import page_of
from graft.training.compress.prune.weights import DTYPES, WeightFiles
from graft.training.errors import ConfigurationError
from graft.training.job.beside import copy_beside_weights
from graft.training.job.export import make_readable, put_in_place
from graft.training.job.lineage import code_version
from graft.training.model.loading import load_tokenizer
from graft.training.model.structure import Structure, empty_decoder
from graft.training.runtime.device import device_kind, own_device
from graft.training.runtime.disk import AGAIN, unmakeable

_TOOLS = ("torch", "transformers")


class Method(StrEnum):
    """By what zeros are chosen."""

    SPARSEGPT = "sparsegpt"
    WANDA = "wanda"
    MAGNITUDE = "magnitude"


_CALIBRATED: Mapping[Method, Callable[[Tensor, Tensor, Sparsity], Tensor]] = {
    Method.SPARSEGPT: sparsegpt,
    Method.WANDA: wanda,
}
"""From a weight and its Hessian; the others look at the weight alone."""


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """One making of a folder. Embeddings, head, norms and biases stay as they are."""

    base: Base
    method: Method
    sparsity: Sparsity
    output: Path
    text: CalibrationText | None = None
    num_tokens: int = NUM_TOKENS
    """Of the calibration text."""

    def execute(self) -> Base:
        """Makes the folder and returns its base; nothing is left half-written.

        Raises:
            ConfigurationError, DataError: something to change, in one line.
            InvalidBase: weights that are not finite.
            OSError: no space or no permission.
        """
        if problems := list(self._problems()):
            raise ConfigurationError(" ".join(problems))
        structure = Structure.of(self.base)
        layers = self._layers(structure)
        self.sparsity.check(layers)
        check_numbers(self.base.path, leftovers=structure.leftovers)
        put_in_place(self.output, lambda folder: self._write(folder, tuple(layers)), remedy=AGAIN)
        return Base.from_folder(self.output)

    def _problems(self) -> Iterator[str]:
        if self.base.form is not None:
            yield f"{self.base.path} is {self.base.form} already; prune the plain base, and then quantize what is made."
        if self.output.exists():
            yield f"--output {self.output} exists; remove it, or choose another folder."
        elif problem := unmakeable(self.output, "--output"):
            yield problem
        if (page := page_of(self.output)).exists():
            yield f"--output {self.output}: {page}, which would tell about it, is there; remove it, or take another."
        if self.method in _CALIBRATED and self.text is None:
            yield f"{self.method} is calibrated: add --data FILE with text like what {self.base.name} will be given."
        if self.method not in _CALIBRATED and self.text is not None:
            yield f"{self.method} takes no calibration text (--data): it looks at the weights alone."

    def _layers(self, structure: Structure) -> Mapping[str, tuple[int, int]]:
        """Those of the blocks."""
        inside = path_of_blocks(empty_decoder(self.base))
        layers = {path: sizes for path, sizes in structure.layers.items() if path.startswith(f"{inside}.")}
        held = base_files.read(self.base.path).tensors
        for path in layers:
            if (dtype := held[f"{path}.weight"].dtype) not in DTYPES:
                raise ConfigurationError(f"{path} is held as {dtype}; only {', '.join(DTYPES)} are pruned.")
        return layers

    def _write(self, folder: Path, layers: tuple[str, ...]) -> None:
        copy_beside_weights(self.base.path, folder)
        files, made, calibration = WeightFiles.copied(self.base.path, folder), dict[str, PrunedLayer](), None

        def keep(path: str, weight_OI: Tensor, hessian_II: Tensor | None, pruned_OI: Tensor) -> None:
            files.overwrite(f"{path}.weight", pruned_OI)
            error = None if hessian_II is None else output_error(weight_OI, pruned_OI, hessian_II)
            made[path] = PrunedLayer(zeros=float((pruned_OI == 0).float().mean()), error=error)

        if self.method in _CALIBRATED:
            calibration = self._calibrated(layers, keep)
        else:
            for path in tqdm(layers, unit="layer", desc="pruning", disable=None):
                weight_OI = files.read(f"{path}.weight")
                keep(path, weight_OI, None, magnitude(weight_OI, self.sparsity))
        record = self._record(folder, made, calibration)
        record.write(folder)
        (folder / "README.md").write_text(self._card(record), encoding="utf-8")
        make_readable(folder)

    def _calibrated(
        self, layers: tuple[str, ...], keep: Callable[[str, Tensor, Tensor | None, Tensor], None]
    ) -> Calibration:
        assert self.text is not None
        prune, decoder = _CALIBRATED[self.method], Decoder.of(self.base.path, self._dtype(layers))
        batches = self.text.batches(
            load_tokenizer(self.base.path),
            num_tokens=self.num_tokens,
            context=int(getattr(decoder.model.config, "max_position_embeddings", self.num_tokens)),
        )

        def change(path: str, layer: nn.Linear, hessian_II: Tensor) -> None:
            pruned_OI = prune(layer.weight, hessian_II, self.sparsity)
            keep(path, layer.weight, hessian_II, pruned_OI)
            layer.weight.copy_(pruned_OI)

        change_blocks(decoder, layers, batches, change, doing="pruning", device=own_device(device_kind()))
        return Calibration(data_digest=self.text.digest, num_tokens=sum(batch.numel() for batch in batches))

    def _dtype(self, layers: tuple[str, ...]) -> torch.dtype:
        """What holds all their numbers exactly."""
        held = base_files.read(self.base.path).tensors
        return torch.bfloat16 if all(held[f"{path}.weight"].dtype == "BF16" for path in layers) else torch.float32

    def _record(self, folder: Path, layers: Mapping[str, PrunedLayer], calibration: Calibration | None) -> PrunedRecord:
        return PrunedRecord(
            base=self.base.identity,
            method=self.method,
            sparsity=self.sparsity.share,
            pattern=None if self.sparsity.group is None else str(self.sparsity),
            layers=layers,
            calibration=calibration,
            weights_digest=base_files.weights_digest(folder),
            tools={"graftserve": code_version(), **{name: version(name) for name in _TOOLS}},
        )

    def _card(self, record: PrunedRecord) -> str:
        return (
            f"# {self.base.name}, pruned\n\n"
            f"Made by `graft prune` ({self.method}, {self.sparsity}) from {shown(self.base.path)}, the base "
            f"{self.base.digest}. It is a base of its own: adapters of that one are trained anew on it. What became of "
            f"each of the {len(record.layers)} layers stands in `{FILE_NAME}`.\n"
        )
