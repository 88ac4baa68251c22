"""The folder of a finished adapter: what was trained, ``graft.json``, and ``reference.json``."""

from __future__ import annotations

import contextlib
import filecmp
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from graft.adapters.adapter import Lineage
from graft.adapters.errors import InvalidAdapter
from graft.adapters.folder.record import TRAINED_FILE, TrainedRecord
from graft.adapters.folder.reference import FILE_NAME as REFERENCE_FILE
from graft.adapters.folder.reference import Reference
from graft.training.adapt.method import Method
from graft.training.job.export import behind_it, put_in_place
from graft.training.job.folder import DATA, Identity
from graft.training.job.lineage import code_version
from graft.training.launch.processes import Processes
from graft.training.parallel.layout import Layout


@dataclass(frozen=True, kw_only=True)
class Written:
    """A folder that a training fills at its end."""

    target: Path
    method: Method
    record: TrainedRecord

    def write(
        self, model: nn.Module, measure: Callable[[], Reference], processes: Processes, *, is_sharded: bool
    ) -> None:
        """The adapter first, and then its reference, for which ``measure`` computes with the base: with sharded weights
        in all processes together. An adapter that is there already, with its reference, stays. Every process calls
        this, and stays until the first has written: a launcher ends those that are left when some have gone.

        Raises ``NotWritten``, and ``NotMeasured`` where the device's memory does not suffice for the reference.
        """
        whole = whole_adapter(model)

        def put(reference: Reference | None = None) -> bool:
            put_in_place(self.target, lambda folder: self._fill(folder, model, whole, reference))
            return (self.target / REFERENCE_FILE).exists()

        def measured() -> Reference:
            remedy = "repeat that with --resume where there is more"
            with behind_it(self.target, what="its reference.json", remedy=remedy):
                return measure()

        if processes.by_first(put):
            return
        reference = measured() if is_sharded else None
        processes.by_first(lambda: put(reference or measured()))

    def _fill(self, folder: Path, model: nn.Module, whole: Mapping[str, Tensor], reference: Reference | None) -> None:
        self.method.save(model, whole, folder)
        self.record.write(folder)
        reference = reference or _reference_of_the_same(self.target, folder)
        if reference is not None:
            reference.write(folder)


def write_checkpoint(method: Method, layout: Layout, model: nn.Module, folder: Path) -> None:
    """Adds what was trained so far to a checkpoint's folder. Every process calls this, the first writes."""
    whole = whole_adapter(model)
    if layout.is_first:
        method.save(model, whole, folder)


def whole_adapter(model: nn.Module) -> dict[str, Tensor]:
    """What is trained, on the CPU, by its names. Where it is sharded, every process calls this."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {
        name: (one.full_tensor() if isinstance(one, DTensor) else one).detach().cpu() for name, one in trained.items()
    }


def lineage(kind: str, identity: Identity, *, seed: int) -> Lineage:
    """Of a training of a ``kind``, such as ``finetune``."""
    return Lineage(
        job=f"{kind}-{identity.digest}", data_digest=identity.values[DATA], code_version=code_version(), seed=seed
    )


def _reference_of_the_same(there: Path, folder: Path) -> Reference | None:
    """What was measured of the very adapter that is in a folder, where it lies ``there`` already."""
    names = ["adapter_config.json", "adapter_model.safetensors", TRAINED_FILE]
    same, _, _ = filecmp.cmpfiles(there, folder, names, shallow=False)
    with contextlib.suppress(InvalidAdapter):
        return Reference.read(there) if same == names else None
    return None
