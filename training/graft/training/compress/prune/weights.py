"""The weight files of a base that is made of another one: copies, whose tensors are overwritten one by one."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from safetensors import safe_open
from torch import Tensor

from graft.adapters.base import files as base_files

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}


@dataclass(frozen=True, kw_only=True)
class WeightFiles:
    """By a tensor's name, the file that holds it."""

    _places: dict[str, Path]

    @classmethod
    def copied(cls, origin: Path, folder: Path) -> Self:
        """What a model is loaded from in ``origin``, with its index. Raises OSError."""
        places: dict[str, Path] = {}
        for path in base_files.loaded_files(origin):
            copy = folder / path.name
            shutil.copyfile(path, copy)
            places |= dict.fromkeys(base_files.read_header(copy)[0], copy)
        for index in origin.glob("*.safetensors.index.json"):
            shutil.copyfile(index, folder / index.name)
        return cls(_places=places)

    def read(self, name: str) -> Tensor:
        with safe_open(self._places[name], framework="pt") as file:
            found: Tensor = file.get_tensor(name)
        return found.clone()  # no map of a file that will be written into

    def overwrite(self, name: str, tensor: Tensor) -> None:
        """With numbers of the same shape, rounded to the file's type. Raises OSError."""
        path = self._places[name]
        info = base_files.read_header(path)[0][name]
        data = tensor.detach().to("cpu", DTYPES[info.dtype]).contiguous().view(torch.uint8).numpy()
        assert data.nbytes == info.end - info.start
        with path.open("r+b") as file:
            file.seek(info.start)
            file.write(data.data)
