"""The values: an adapter, its immutable versions, and the aliases that point at them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from graft.adapters.digest import digest_of_json
from graft.adapters.form import ServingForm

STABLE = "stable"
DEFAULT_TENANT = "default"


class Provenance(StrEnum):
    """How the base of a version is known."""

    TRAINED = "trained"
    """The trainer recorded the base's digests."""
    DECLARED = "declared"
    """A foreign folder: its importer stated the base."""


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Where a version comes from; None where it is not known."""

    job: str | None = None
    data_digest: str | None = None
    code_version: str | None = None
    seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class BaseReference:
    """The base that a version belongs to, by digest; the name is a label only."""

    digest: str
    weights_digest: str
    tokenizer_digest: str
    chat_template_digest: str | None
    name: str
    config_digest: str | None = None
    """Of what config.json says of the computing; None in what was recorded before bases were known by it, too."""

    def differences(self, other: BaseReference) -> tuple[str, ...]:
        """The parts in which they differ, as far as both are known: weights, tokenizer, chat_template, config."""
        unequal = [part for part in BASE_PARTS if getattr(self, f"{part}_digest") != getattr(other, f"{part}_digest")]
        unknown = self.config_digest is None or other.config_digest is None
        return tuple(part for part in unequal if part != "config" or not unknown)


BASE_PARTS = ("weights", "tokenizer", "chat_template", "config")


@dataclass(frozen=True, kw_only=True)
class AdapterFile:
    """One file of a version; `sha256` is 64 hex digits."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class AdapterVersion:
    """An immutable version. `number` counts from 1 within the adapter; `digest` covers the content only."""

    digest: str
    adapter: str
    tenant: str
    number: int
    base: BaseReference
    form: ServingForm
    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    files: tuple[AdapterFile, ...]
    size_bytes: int
    provenance: Provenance
    lineage: Lineage
    create_time: datetime


@dataclass(frozen=True, kw_only=True)
class Alias:
    """A movable pointer. `weight_percent` (0..100) of the bare name's traffic goes here, the rest to `stable`."""

    adapter: str
    tenant: str
    name: str
    version_digest: str
    weight_percent: int
    etag: str
    update_time: datetime


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A name owned by a tenant."""

    tenant: str
    name: str
    create_time: datetime


def version_digest(
    *,
    files: Iterable[AdapterFile],
    base: BaseReference,
    form: ServingForm,
    provenance: Provenance,
    lineage: Lineage,
) -> str:
    """Digest of a version's content and origin.

    Names, number and time stay outside: the same content under two names is one digest, one folder, one engine slot.
    """
    # Versions of bases whose configuration was not recorded keep their digest.
    config = [] if base.config_digest is None else [base.config_digest]
    return digest_of_json(
        {
            "files": sorted([file.name, file.sha256] for file in files),
            "base": [base.weights_digest, base.tokenizer_digest, base.chat_template_digest, *config],
            "form": form.value,
            "provenance": provenance.value,
            "lineage": [lineage.job, lineage.data_digest, lineage.code_version, lineage.seed],
        }
    )
