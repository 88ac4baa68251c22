"""The values: an adapter, its immutable versions, and the aliases that point at them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, StrictFloat, StrictInt

from graft.adapters.digest import Digest, digest_of_json
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
class Parent:
    """What a version was made of without training: a version that it is a sum of, or an adapter that was compiled."""

    digest: Digest
    weight: Annotated[StrictFloat, Field(allow_inf_nan=False)]
    """What its updates were multiplied by."""


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Where a version comes from; None where it is not known."""

    job: str | None
    data_digest: str | None
    code_version: str | None
    seed: StrictInt | None
    parents: tuple[Parent, ...] = ()

    def record(self) -> dict[str, Any]:
        """As JSON; without `parents` where there are none, as it was written before there could be any."""
        values = {name: value for name, value in vars(self).items() if name != "parents"}
        return values | ({"parents": [vars(parent) for parent in self.parents]} if self.parents else {})

    @classmethod
    def of_record(cls, values: Mapping[str, Any]) -> Lineage:
        """What `record` gave."""
        return cls(**{**values, "parents": tuple(Parent(**parent) for parent in values.get("parents", ()))})


UNKNOWN_LINEAGE = Lineage(job=None, data_digest=None, code_version=None, seed=None)


@dataclass(frozen=True, kw_only=True)
class BaseIdentity:
    """Which base: the digests of its parts, and one over them; the name is a label only."""

    digest: str = field(init=False)
    weights_digest: Digest
    tokenizer_digest: Digest
    chat_template_digest: Digest | None
    name: str
    config_digest: Digest | None = None
    """Of what config.json says of the computing; None in what was recorded before bases were known by it, too."""

    def __post_init__(self) -> None:
        config = {} if self.config_digest is None else {"config": self.config_digest}
        object.__setattr__(self, "digest", digest_of_json(self._old_parts() | config))

    @property
    def digest_without_config(self) -> str:
        """The digest under which the base was known before its configuration counted."""
        return digest_of_json(self._old_parts())

    def differences(self, other: BaseIdentity) -> tuple[str, ...]:
        """The parts in which they differ, as far as both are known: weights, tokenizer, chat_template, config."""
        unequal = [part for part in _PARTS if getattr(self, f"{part}_digest") != getattr(other, f"{part}_digest")]
        unknown = self.config_digest is None or other.config_digest is None
        return tuple(part for part in unequal if part != "config" or not unknown)

    def _old_parts(self) -> dict[str, str | None]:
        return {part: getattr(self, f"{part}_digest") for part in _PARTS if part != "config"}


_PARTS = ("weights", "tokenizer", "chat_template", "config")


@dataclass(frozen=True, kw_only=True)
class AdapterFile:
    """One file of a version; `sha256` is 64 hex digits."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class AdapterVersion:
    """An immutable version. `number` counts from 1 within the adapter; `digest` covers the content only.

    One with `num_virtual_tokens` is a soft prompt, which has no rank and no modules; else it is a LoRA, with a head of
    `num_labels` outputs where that is not 0.
    """

    digest: str
    adapter: str
    tenant: str
    number: int
    base: BaseIdentity
    form: ServingForm
    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    files: tuple[AdapterFile, ...]
    size_bytes: int
    provenance: Provenance
    lineage: Lineage
    create_time: datetime
    num_virtual_tokens: int = 0
    num_labels: int = 0


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
    base: BaseIdentity,
    form: ServingForm,
    provenance: Provenance,
    lineage: Lineage,
) -> str:
    """Digest of a version's content and origin.

    Names, number and time stay outside: the same content under two names is one digest, one folder, one engine slot.
    """
    # Versions of bases whose configuration was not recorded keep their digest, as do those without parents.
    config = [] if base.config_digest is None else [base.config_digest]
    parents = [[[parent.digest, parent.weight] for parent in lineage.parents]] if lineage.parents else []
    return digest_of_json(
        {
            "files": sorted([file.name, file.sha256] for file in files),
            "base": [base.weights_digest, base.tokenizer_digest, base.chat_template_digest, *config],
            "form": form.value,
            "provenance": provenance.value,
            "lineage": [lineage.job, lineage.data_digest, lineage.code_version, lineage.seed, *parents],
        }
    )
