"""`graft.json`: what a trainer records beside the PEFT files, so that an import can compare base and form."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from graft.adapters.adapter import BaseIdentity, Lineage
from graft.adapters.digest import is_digest
from graft.adapters.errors import InvalidAdapter, Reason
from graft.adapters.folder.strict_json import read_json_object
from graft.adapters.form import ServingForm

FILE_NAME = "graft.json"
_MAX_BYTES = 1 << 16
_BASE_KEYS = {"digest", "weights_digest", "tokenizer_digest", "chat_template_digest", "config_digest", "name"}
_MAY_MISS = {"config_digest"}
"""Records before 0.2 lack it."""
_LINEAGE_KEYS = {"job", "data_digest", "code_version", "seed"}


@dataclass(frozen=True, kw_only=True)
class TrainedRecord:
    """The base, the form and the lineage that a trainer vouches for."""

    base: BaseIdentity
    form: ServingForm
    lineage: Lineage

    def write(self, folder: Path) -> Path:
        """Write `graft.json` into `folder` and return its path. Raises OSError."""
        body = {"base": asdict(self.base), "form": self.form.value, "lineage": asdict(self.lineage)}
        path = folder / FILE_NAME
        path.write_text(json.dumps(body, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
        return path

    @classmethod
    def read(cls, folder: Path) -> TrainedRecord | None:
        """The record in `folder`, or None when there is no such file. Raises InvalidAdapter with all reasons."""
        path = folder / FILE_NAME
        if not path.exists():
            return None
        body, reasons = read_json_object(path, max_bytes=_MAX_BYTES)
        if not reasons:
            reasons = _reasons(body)
        if reasons:
            raise InvalidAdapter(f"{FILE_NAME} is not a valid training record", reasons)
        base, lineage = _section(body, "base"), _section(body, "lineage")
        return cls(
            base=_identity(base),
            form=ServingForm(str(body["form"])),
            lineage=Lineage(**lineage),  # type: ignore[arg-type]  # checked by _reasons
        )


def _identity(base: Mapping[str, object]) -> BaseIdentity:
    parts = {key: value for key, value in base.items() if key != "digest"}
    return BaseIdentity(**parts)  # type: ignore[arg-type]  # checked by _base_reasons


def _section(body: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = body.get(key)
    return value if isinstance(value, Mapping) else {}


def _reasons(body: Mapping[str, object]) -> list[Reason]:
    reasons = _key_reasons("", body, {"base", "form", "lineage"})
    base, lineage = _section(body, "base"), _section(body, "lineage")
    reasons += _key_reasons("base.", base, _BASE_KEYS, _MAY_MISS) + _key_reasons("lineage.", lineage, _LINEAGE_KEYS)
    form = body.get("form")
    if form not in list(ServingForm):
        reasons.append(_reason("form", f"{form!r} is none of {', '.join(ServingForm)}"))
    reasons += _base_reasons(base)
    for key in ("job", "data_digest", "code_version"):
        if not isinstance(lineage.get(key), str | None):
            reasons.append(_reason(f"lineage.{key}", "must be a string or null"))
    seed = lineage.get("seed")
    if isinstance(seed, bool) or not isinstance(seed, int | None):
        reasons.append(_reason("lineage.seed", "must be an integer or null"))
    return reasons


def _base_reasons(base: Mapping[str, object]) -> list[Reason]:
    reasons = []
    for key in sorted(_BASE_KEYS - {"name"}):
        value = base.get(key)
        if not is_digest(value) and not (key in ("chat_template_digest", "config_digest") and value is None):
            reasons.append(_reason(f"base.{key}", f"{value!r} is not a digest sha256:<64 hex digits>"))
    if not isinstance(base.get("name"), str):
        reasons.append(_reason("base.name", "must be a string"))
    if not reasons:
        expected = _identity(base).digest
        if base["digest"] != expected:
            reasons.append(_reason("base.digest", f"{base['digest']} is not the digest of its parts, {expected}"))
    return reasons


def _key_reasons(
    prefix: str, body: Mapping[str, object], keys: set[str], may_miss: Collection[str] = ()
) -> list[Reason]:
    missing = [_reason(prefix + key, "is missing") for key in sorted(keys - body.keys() - set(may_miss))]
    return missing + [_reason(prefix + key, "is an unknown key") for key in sorted(body.keys() - keys)]


def _reason(field: str, problem: str) -> Reason:
    return Reason(field=f"{FILE_NAME}:{field}", problem=problem, remedy="train again or remove the file")
