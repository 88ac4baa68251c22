"""The parity receipt: how far served log-probabilities lie from a reference, whether the adapter acts at all, and where
receipts are kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from graft.adapters.catalog.catalog import Catalog
from graft.adapters.catalog.rows import Record
from graft.adapters.form import ServingForm
from graft.server.registry.snapshots import Snapshots
from graft.server.registry.thread import CatalogThread

KIND = "parity_receipt"
"""Kind of the record in the catalog."""
MAX_MEAN_ABS_DELTA = 0.05
"""Largest mean |Δ log p| in nats between serving and a reference in the same form."""
NOOP_ABS_DELTA = 1e-6
"""An adapter that moves the base's log-probabilities by no more than this, on average, changes nothing."""

# What stands for a difference that is no number, or beyond any that two models could have: JSON knows no infinity.
_LARGEST_ABS_DELTA = 1e3

Logprobs = Sequence[Sequence[float]]


class Source(StrEnum):
    """Who computed the reference."""

    TRAINER = "trainer"
    PEFT = "peft"
    NONE = "none"
    """Nobody: nothing was compared."""


@dataclass(frozen=True, kw_only=True)
class Deltas:
    """Absolute differences of log-probabilities (nats) over the probe tokens: to the reference, and to the base.

    Of an adapter with a head differences of what it says, as `headed.told`, and to a head of zeros.
    """

    num_tokens: int
    mean_abs_delta: float
    max_abs_delta: float
    base_mean_abs_delta: float


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What a receipt holds for: another form, engine or kernel needs another receipt."""

    form: ServingForm
    engine: str
    kernel: str


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """One check of one version. `reference_form` and `deltas` are None where nothing was compared; `why` says the
    reason where it was not the operator's word.
    """

    source: Source
    circumstances: Circumstances
    reference_form: ServingForm | None
    deltas: Deltas | None
    checked_at: datetime
    why: str = ""

    @property
    def is_noop(self) -> bool:
        """Whether the served adapter changes nothing that was seen."""
        return self.deltas is not None and self.deltas.base_mean_abs_delta <= NOOP_ABS_DELTA

    @property
    def has_drifted(self) -> bool:
        """Whether serving is too far from a reference that it has to match: another form's is only measured."""
        if self.deltas is None or self.reference_form != self.circumstances.form:
            return False
        return self.deltas.mean_abs_delta > MAX_MEAN_ABS_DELTA

    def body(self) -> dict[str, object]:
        """As it stands in the catalog."""
        body: dict[str, object] = {
            "source": self.source.value,
            "form": self.circumstances.form.value,
            "reference_form": self.reference_form and self.reference_form.value,
            "engine": self.circumstances.engine,
            "kernel": self.circumstances.kernel,
            "checked_at": self.checked_at.isoformat(),
        }
        if self.why:
            body["not_measured"] = self.why
        if self.deltas is not None:
            deltas = self.deltas
            body |= {name: getattr(deltas, name) for name in Deltas.__dataclass_fields__}
            body |= {"limit": MAX_MEAN_ABS_DELTA, "drifted": self.has_drifted, "noop": self.is_noop}
        return body

    @classmethod
    def from_body(cls, body: Mapping[str, object]) -> Receipt | None:
        """The receipt that `body` wrote; None for one of a version of Graft that wrote otherwise."""
        try:
            form = body["reference_form"]
            return cls(
                source=Source(str(body["source"])),
                circumstances=Circumstances(
                    form=ServingForm(str(body["form"])), engine=str(body["engine"]), kernel=str(body["kernel"])
                ),
                reference_form=None if form is None else ServingForm(str(form)),
                deltas=_deltas(body) if "num_tokens" in body else None,
                checked_at=datetime.fromisoformat(str(body["checked_at"])),
                why=str(body.get("not_measured", "")),
            )
        except (KeyError, TypeError, ValueError):
            return None


class VersionRecords:
    """Append-only records by version digest. They change nothing that requests resolve."""

    def __init__(self, catalog: CatalogThread, snapshots: Snapshots) -> None:
        self._catalog = catalog
        self._snapshots = snapshots

    async def of(self, digest: str) -> tuple[Record, ...]:
        """All tenants' records about the version, oldest first within each tenant."""
        tenants = self._tenants_of(digest)
        return await self._catalog.read(
            lambda catalog: tuple(one for tenant in tenants for one in catalog.records(digest, tenant=tenant))
        )

    async def add(self, digest: str, kind: str, body: Mapping[str, object]) -> None:
        """Append a record for every tenant that has the version."""
        tenants = self._tenants_of(digest)

        def append(catalog: Catalog) -> None:
            for tenant in tenants:
                catalog.add_record(digest, kind, body, tenant=tenant)

        await self._catalog.read(append)

    def _tenants_of(self, digest: str) -> list[str]:
        return sorted({version.tenant for version in self._snapshots.current.versions if version.digest == digest})


def compare(*, reference: Logprobs, served: Logprobs, base: Logprobs) -> Deltas:
    """All hold one list per probe, one number (nats) per token; `base` of the first probes only.

    Raises `ValueError` for other shapes, or where there is no token.
    """
    to_reference, to_base = _abs_deltas(served, reference), _abs_deltas(served[: len(base)], base)
    if not to_reference or not to_base:
        raise ValueError("there is no token to compare")
    return Deltas(
        num_tokens=len(to_reference),
        mean_abs_delta=math.fsum(to_reference) / len(to_reference),
        max_abs_delta=max(to_reference),
        base_mean_abs_delta=math.fsum(to_base) / len(to_base),
    )


def _abs_deltas(ours: Logprobs, theirs: Logprobs) -> list[float]:
    return [
        _abs_delta(one, other)
        for row, other_row in zip(ours, theirs, strict=True)
        for one, other in zip(row, other_row, strict=True)
    ]


def _abs_delta(one: float, other: float) -> float:
    delta = abs(one - other)
    return min(delta, _LARGEST_ABS_DELTA) if math.isfinite(delta) else _LARGEST_ABS_DELTA


def _deltas(body: Mapping[str, object]) -> Deltas:
    return Deltas(
        num_tokens=int(str(body["num_tokens"])),
        mean_abs_delta=float(str(body["mean_abs_delta"])),
        max_abs_delta=float(str(body["max_abs_delta"])),
        base_mean_abs_delta=float(str(body["base_mean_abs_delta"])),
    )
