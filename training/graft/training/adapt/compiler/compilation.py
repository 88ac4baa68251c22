"""From an adapter of any method to what a server takes: a LoRA adapter, or a new base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from peft import PeftConfig
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from graft.adapters.base.base import Base
from graft.adapters.base.numbers import check_numbers
from graft.adapters.folder.manifest import TENSOR_FILE
from graft.adapters.folder.record import TrainedRecord
from graft.adapters.folder.reference import Reference
from graft.adapters.form import ServingForm
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.compiler.factors import Factors
from graft.training.adapt.compiler.held_base import load_held
from graft.training.adapt.compiler.initial import Initial
from graft.training.adapt.compiler.loaded import Loaded
from graft.training.adapt.compiler.lora_folder import write_lora
from graft.training.adapt.compiler.lora_route import Updates, exact, obstacles, shortened
from graft.training.adapt.compiler.merged_base import Weights, merged, write_merged
from graft.training.adapt.compiler.original import Original
from graft.training.adapt.compiler.peft_model import empty, fill
from graft.training.adapt.compiler.probes import Difference, Probes
from graft.training.adapt.compiler.report import AsWritten, LayerReport, Report, relative_error
from graft.training.adapt.made.reference import recorded
from graft.training.adapt.method import Route
from graft.training.errors import ConfigurationError, NotTheSame
from graft.training.job.export import put_in_place
from graft.training.model.loading import PLAIN_FORMS, load_base
from graft.training.runtime.device import device_kind, own_device
from graft.training.runtime.disk import AGAIN, unmakeable

SAME_NATS = 1e-4
"""Mean |Δ log p| in float32 up to which two models differ by the order of their sums only."""
ROUNDED_NATS = 0.05
"""Likewise where weights were rounded to a base's own type, by the tolerance of the parity receipt."""
SAME_WEIGHTS = 1e-5
"""Of updates, relative to their Frobenius norm."""


@dataclass(frozen=True, kw_only=True)
class Compilation:
    """One compiling of the PEFT folder ``adapter``, for a base that is served in ``form``."""

    adapter: Path
    base: Base
    form: ServingForm
    output: Path
    initial: Path | None = None
    """The adapter as it was before its training, where it lessened the base and cannot be made again."""
    merge: bool = False
    svd_rank: int | None = None
    max_error: float | None = None
    """Of the update, relative to its Frobenius norm: what is further off is refused."""

    def execute(self) -> Report:
        """Writes ``output`` once what is in it was compared with the original.

        Raises:
            ConfigurationError: the adapter, the base or an error above ``max_error``, in one line.
            NotTheSame: what was made is not what was trained. Nothing is written.
        """
        self._check()
        original = Original.read(self.adapter, self.base, self.form)
        saved = None if self.initial is None else load_file(self.initial / TENSOR_FILE)
        initial = Initial.of(original.config, self.initial, saved)
        adaptable = Adaptable.of(self.base)
        original.check_patterns([*adaptable.layers, *adaptable.others])
        check_numbers(self.base.path, leftovers=adaptable.leftovers)
        made = self._made(original, initial, adaptable)
        found: list[Report] = []
        fill_folder = partial(made.write, self, original, tuple(adaptable.layers), found)
        put_in_place(self.output, fill_folder, remedy=AGAIN)
        return found[0]

    def _check(self) -> None:
        wrong = []
        if self.output.exists():
            wrong.append(f"--output {self.output} exists: remove it, or choose another folder")
        elif problem := unmakeable(self.output, "--output"):
            wrong.append(problem.removesuffix("."))
        if self.merge and self.svd_rank is not None:
            wrong.append("--merge makes a base and --svd an adapter: take one of them")
        if not self.adapter.is_dir():
            wrong.append(f"{self.adapter} is no folder: give one that PEFT saved")
        if self.initial is not None and not (self.initial / TENSOR_FILE).is_file():
            wrong.append(f"--initial {self.initial} holds no {TENSOR_FILE}")
        if wrong:
            raise ConfigurationError(f"{'; '.join(wrong)}.")

    def held(self, base: Base, form: ServingForm | None = None) -> PreTrainedModel:
        return load_held(base, form or self.form, device=own_device(device_kind()))

    def _made(self, original: Original, initial: Initial | None, adaptable: Adaptable) -> _Made:
        """The original's weights are gone from memory behind this."""
        loaded = Loaded.of(self.held(self.base), original, initial)
        probes = Probes.of(loaded.model, original.reference, vocab_size=self.base.vocab_size)
        said = probes.logits(loaded.model)
        if self.svd_rank is not None:
            if reasons := obstacles(loaded, self.base, adaptable.layers):
                raise ConfigurationError(f"no LoRA adapter comes near: {'; '.join(reasons)}. Merge it with --merge.")
            updates = Updates.of(loaded, shortened(loaded, self.svd_rank), rank=self.svd_rank)
            return _Lora(probes, said, Route.SVD, updates)
        factors: Mapping[str, Factors] = {}
        reasons = ["--merge asked for it"]
        if not self.merge:
            factors, reasons = exact(loaded, self.base, adaptable.layers)
        if not reasons:
            return _Lora(probes, said, Route.EXACT, Updates.of(loaded, factors))
        model = merged(loaded.model)
        same = probes.difference(said, probes.logits(model))
        _check_same(same, "merging")
        return _Merged(probes, said, reasons, model)

    def check_error(self, error: float) -> None:
        if self.max_error is not None and error > self.max_error:
            raise ConfigurationError(
                f"the update is off by {error:.3g} of its norm, and --max-error is {self.max_error:g}: "
                "raise the rank of --svd or that limit. Nothing was written."
            )


@dataclass(frozen=True)
class _Lora:
    """To be written as an adapter."""

    probes: Probes
    said: Sequence[Tensor]
    """The original's logits."""
    route: Route
    updates: Updates

    def write(
        self, to: Compilation, original: Original, layers: Sequence[str], found: list[Report], folder: Path
    ) -> None:
        report = _report(to, original, self.route, self.updates.layers, self.probes, Difference(nats=0.0, logits=0.0))
        to.check_error(report.relative_error)
        if self.route is Route.EXACT and report.relative_error > SAME_WEIGHTS:
            raise NotTheSame(f"the closed form is off by {report.relative_error:.2g} of the update's norm.")
        write_lora(folder, self.updates.factors, to.base, layers=layers)
        original.copy_template(folder)
        difference = self._compared(to.held(to.base), folder)
        if self.route is Route.EXACT:
            _check_same(difference, "compiling")
        self._reference(to, folder).write(folder)
        lineage = original.lineage(to.base, to.form)
        TrainedRecord(base=to.base.identity, form=to.form, lineage=lineage, provenance=original.provenance).write(
            folder
        )
        found.append(_report(to, original, self.route, self.updates.layers, self.probes, difference))
        found[0].write(folder)

    def _compared(self, base: PreTrainedModel, folder: Path) -> Difference:
        model = empty(base, PeftConfig.from_pretrained(str(folder)))
        fill(model, load_file(folder / TENSOR_FILE))
        model.eval()
        self.updates.check(model)
        return self.probes.difference(self.said, self.probes.logits(model))

    def _reference(self, to: Compilation, folder: Path) -> Reference:
        """What it says on the base as that is served."""
        base = load_base(to.base.path, to.form, device=own_device(device_kind()))
        model = empty(base, PeftConfig.from_pretrained(str(folder)))
        fill(model, load_file(folder / TENSOR_FILE))
        found: Reference = recorded(model, self.probes.rows, to.form)
        return found


@dataclass(frozen=True)
class _Merged:
    """To be written as a base."""

    probes: Probes
    said: Sequence[Tensor]
    reasons: Sequence[str]
    """Why it is no adapter."""
    model: PreTrainedModel

    def write(
        self, to: Compilation, original: Original, layers: Sequence[str], found: list[Report], folder: Path
    ) -> None:
        weights = Weights.of(self.model)
        write_merged(self.model, to.base, original, folder, name=to.output.name, form=to.form)
        written = Base.from_folder(folder)
        served, before = to.held(written, ServingForm.FP32), to.held(to.base)
        difference = self.probes.difference(self.said, self.probes.logits(served))
        _check_same(difference, "writing the base", most=ROUNDED_NATS)
        changed = weights.reports(before=before, served=served)
        as_written = AsWritten(relative_error=relative_error(changed), nats=difference.nats)
        form = to.form if to.form in PLAIN_FORMS else ServingForm.BF16
        if form in (ServingForm.NF4, ServingForm.LLM_INT8):
            served = to.held(written, form)
            difference = self.probes.difference(self.said, self.probes.logits(served))
            changed = weights.reports(before=before, served=served)
        notes = [f"a base and no adapter: {'; '.join(self.reasons)}", *_of_form(to.form, form)]
        report = _report(
            to, original, Route.MERGE, changed, self.probes, difference, notes=notes, as_written=as_written
        )
        to.check_error(report.relative_error)
        report.write(folder)
        found.append(report)


def _report(
    to: Compilation,
    original: Original,
    route: Route,
    layers: Sequence[LayerReport],
    probes: Probes,
    difference: Difference,
    *,
    notes: Sequence[str] = (),
    as_written: AsWritten | None = None,
) -> Report:
    return Report(
        method=original.method,
        route=route,
        form=to.form,
        base=to.base.name,
        lineage=original.lineage(to.base, to.form).record(),
        layers=layers,
        nats=difference.nats,
        logits=difference.logits,
        num_probe_tokens=probes.num_tokens,
        notes=notes,
        as_written=as_written,
    )


def _of_form(wanted: ServingForm, measured: ServingForm) -> list[str]:
    if wanted is not measured:
        return [f"its weights are plain: `graft quantize --form {wanted}` brings them into {wanted} again"]
    if wanted in (ServingForm.NF4, ServingForm.LLM_INT8):
        return [
            f"the error is that of bringing what was merged into {wanted} again. Served with --quantization bf16 it "
            "has none of it, nor has an adapter beside the same base: --svd RANK makes the nearest"
        ]
    return []


def _check_same(difference: Difference, what: str, *, most: float = SAME_NATS) -> None:
    if difference.nats > most:
        raise NotTheSame(
            f"{what} changed what it says: mean |Δ log p| is {difference.nats:.2g} on the probe rows, and may be "
            f"{most:g}. Nothing was written."
        )


_Made = _Lora | _Merged
