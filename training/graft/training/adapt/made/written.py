"""The folder of a finished adapter: what was trained, ``graft.json``, and ``reference.json``."""

from __future__ import annotations

import contextlib
import filecmp
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from graft.adapters.adapter import Lineage
from graft.adapters.errors import InvalidAdapter
from graft.adapters.folder.record import TRAINED_FILE, TrainedRecord
from graft.adapters.folder.reference import FILE_NAME as REFERENCE_FILE
from graft.adapters.folder.reference import Reference
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.method import Method, Route
from graft.training.job.export import behind_it, make_readable, put_in_place
from graft.training.job.folder import DATA, Identity
from graft.training.job.lineage import ORIGIN, code_version
from graft.training.launch.processes import Processes
from graft.training.parallel.layout import Layout
from graft.training.runtime.disk import replace_text


def folder_of(method: Method, base: Adaptable) -> str:
    """The name, in a job's folder, of what its training makes."""
    return "base" if method.way(base).route is Route.BASE else "adapter"


@dataclass(frozen=True, kw_only=True)
class Written:
    """A folder that a training fills at its end."""

    target: Path
    method: Method
    base: Adaptable
    record: TrainedRecord

    @classmethod
    def into(cls, work: Path, method: Method, base: Adaptable, record: TrainedRecord) -> Self:
        """A job's folder."""
        return cls(target=work / folder_of(method, base), method=method, base=base, record=record)

    def write(
        self, model: nn.Module, measure: Callable[[], Reference], processes: Processes, *, is_sharded: bool
    ) -> None:
        """The adapter first, and then its reference, for which ``measure`` computes with the base: with sharded weights
        in all processes together. An adapter that is there already, with its reference, stays. Every process calls
        this, and stays until the first has written: a launcher ends those that are left when some have gone.

        Raises ``NotWritten``, and ``NotMeasured`` where the device's memory does not suffice for the reference.
        """
        whole = whole_adapter(model)
        if self._is_base:  # whoever serves it compares it with nothing
            processes.by_first(lambda: put_in_place(self.target, lambda folder: self._fill_base(folder, model, whole)))
            return

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

    @property
    def _is_base(self) -> bool:
        return self.method.way(self.base).route is Route.BASE

    def _fill_base(self, folder: Path, model: nn.Module, whole: Mapping[str, Tensor]) -> None:
        self.method.save(model, whole, folder)
        name, origin = self.target.parent.name, asdict(self.record)
        told = f"Made by `graft finetune --method {self.method.name}` from {self.base.name}: see `{ORIGIN}`."
        (folder / "README.md").write_text(f"# {name}\n\n{told}\n", encoding="utf-8")
        replace_text(folder / ORIGIN, json.dumps({"method": self.method.name, **origin}, indent=1, default=str))
        make_readable(folder)

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


def lineage(kind: str, identity: Identity, *, seed: int, job: str | None = None) -> Lineage:
    """Of a training of a ``kind``, such as ``finetune``, or of a server's ``job``."""
    return Lineage(
        job=job or f"{kind}-{identity.digest}",
        data_digest=identity.values[DATA],
        code_version=code_version(),
        seed=seed,
    )


def _reference_of_the_same(there: Path, folder: Path) -> Reference | None:
    """What was measured of the very adapter that is in a folder, where it lies ``there`` already."""
    names = ["adapter_config.json", "adapter_model.safetensors", TRAINED_FILE]
    same, _, _ = filecmp.cmpfiles(there, folder, names, shallow=False)
    with contextlib.suppress(InvalidAdapter):
        return Reference.read(there) if same == names else None
    return None
