"""`graft_base.json`: what lies beside a quantized base's weights, so that it keeps the identity of its origin."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from graft.adapters.adapter import BaseIdentity
from graft.adapters.digest import is_digest
from graft.adapters.errors import InvalidBase, Reason
from graft.adapters.folder.strict_json import read_json_object
from graft.adapters.form import ServingForm

FILE_NAME = "graft_base.json"
_MAX_BYTES = 16 << 20
_KEYS = {"base", "form", "modules", "num_parameters", "files", "calibration", "tools"}
_BASE_KEYS = {"digest", "weights_digest", "tokenizer_digest", "chat_template_digest", "config_digest", "name"}
_CALIBRATION_KEYS = {"data_digest", "num_tokens"}
_REMEDY = "make the folder again with graft quantize"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The text that steered the rounding."""

    data_digest: str
    num_tokens: int


@dataclass(frozen=True, kw_only=True)
class QuantizedRecord:
    """What `graft quantize` vouches for.

    `base` is the origin; `modules` maps each linear layer of the origin to (out_features, in_features), which packed
    weights no longer tell; `files` holds the SHA-256 (64 hex digits) of config.json and of every weight file; `tools`
    the versions of what made them. It guards against mistakes, not against a forger, who could write this file too.
    """

    base: BaseIdentity
    form: ServingForm
    modules: Mapping[str, tuple[int, int]]
    num_parameters: int
    files: Mapping[str, str]
    calibration: Calibration | None
    tools: Mapping[str, str]

    def write(self, folder: Path) -> Path:
        """Write `graft_base.json` into `folder` and return its path. Raises OSError."""
        body = {
            "base": asdict(self.base),
            "form": self.form.value,
            "modules": {name: list(shape) for name, shape in self.modules.items()},
            "num_parameters": self.num_parameters,
            "files": dict(self.files),
            "calibration": None if self.calibration is None else asdict(self.calibration),
            "tools": dict(self.tools),
        }
        path = folder / FILE_NAME
        path.write_text(json.dumps(body, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
        return path

    @classmethod
    def read(cls, folder: Path) -> QuantizedRecord | None:
        """The record in `folder`, or None when there is no such file. Raises InvalidBase with all reasons."""
        path = folder / FILE_NAME
        if not path.exists():
            return None
        body, reasons = read_json_object(path, max_bytes=_MAX_BYTES)
        reasons = reasons or list(_reasons(body))
        if reasons:
            raise InvalidBase(f"{folder} is not a usable base", reasons)
        return _from_checked(dict(body))

    def differences(self, hashes: Mapping[str, str], tokenizer: str, chat_template: str | None) -> list[Reason]:
        """Where a folder is not what was recorded: `hashes` are its files' SHA-256, the others its digests."""
        reasons = []
        for name in sorted(self.files.keys() | hashes.keys()):
            recorded, found = self.files.get(name), hashes.get(name)
            if found is None:
                reasons.append(Reason(field=name, problem="is missing", remedy=_REMEDY))
            elif recorded is None:
                problem = f"is not recorded in {FILE_NAME}"
                reasons.append(Reason(field=name, problem=problem, remedy="remove it, or " + _REMEDY))
            elif recorded != found:
                problem = f"was changed: its SHA-256 is {found}, recorded is {recorded}"
                reasons.append(Reason(field=name, problem=problem, remedy=_REMEDY))
        for part, here in (("tokenizer", tokenizer), ("chat_template", chat_template)):
            there = getattr(self.base, f"{part}_digest")
            if here != there:
                problem = f"is {here or 'none'}, but the origin {self.base.name} has {there or 'none'}"
                reasons.append(Reason(field=f"{part}_digest", problem=problem, remedy=_REMEDY))
        return reasons


def _from_checked(body: dict[str, object]) -> QuantizedRecord:
    base, calibration, modules = body["base"], body["calibration"], body["modules"]
    files, tools, num_parameters = body["files"], body["tools"], body["num_parameters"]
    assert isinstance(base, dict) and isinstance(modules, dict) and isinstance(files, dict)
    assert isinstance(tools, dict) and isinstance(num_parameters, int)
    return QuantizedRecord(
        base=BaseIdentity(**{key: value for key, value in base.items() if key != "digest"}),
        form=ServingForm(str(body["form"])),
        modules={name: (shape[0], shape[1]) for name, shape in modules.items()},
        num_parameters=num_parameters,
        files=files,
        calibration=Calibration(**calibration) if isinstance(calibration, dict) else None,
        tools=tools,
    )


def _reasons(body: Mapping[str, object]) -> Iterator[Reason]:
    yield from _key_reasons("", body, _KEYS)
    yield from _base_reasons(body.get("base"))
    if body.get("form") not in list(ServingForm):
        yield _reason("form", f"{body.get('form')!r} is none of {', '.join(ServingForm)}")
    modules = body.get("modules")
    if not isinstance(modules, dict) or not modules or not all(_is_shape(shape) for shape in modules.values()):
        yield _reason("modules", "must map every linear layer to [out_features, in_features]")
    if not _is_count(body.get("num_parameters")):
        yield _reason("num_parameters", "must be a positive integer")
    files = body.get("files")
    if not isinstance(files, dict) or not all(is_digest(f"sha256:{value}") for value in files.values()):
        yield _reason("files", "must map file names to 64 hex digits")
    tools = body.get("tools")
    if not isinstance(tools, dict) or not all(isinstance(value, str) for value in tools.values()):
        yield _reason("tools", "must map names to versions")
    yield from _calibration_reasons(body.get("calibration"))


def _base_reasons(base: object) -> Iterator[Reason]:
    # Records before 0.2 lack the configuration's digest.
    known = isinstance(base, dict) and base.keys() | {"config_digest"} == _BASE_KEYS
    if not isinstance(base, dict) or not known or not isinstance(base["name"], str):
        yield _reason("base", f"must have the keys {', '.join(sorted(_BASE_KEYS))}")
        return
    parts = [base["weights_digest"], base["tokenizer_digest"], base["chat_template_digest"], base.get("config_digest")]
    if not all(map(is_digest, parts[:2])) or not all(part is None or is_digest(part) for part in parts[2:]):
        yield _reason("base", "has a digest that is not sha256:<64 hex digits>")
        return
    expected = BaseIdentity(**{key: value for key, value in base.items() if key != "digest"}).digest
    if base["digest"] != expected:
        yield _reason("base.digest", f"{base['digest']} is not the digest of its parts, {expected}")


def _calibration_reasons(calibration: object) -> Iterator[Reason]:
    if calibration is None:
        return
    if not isinstance(calibration, dict) or calibration.keys() != _CALIBRATION_KEYS:
        yield _reason("calibration", f"must be null or have the keys {', '.join(sorted(_CALIBRATION_KEYS))}")
    elif not is_digest(calibration["data_digest"]) or not _is_count(calibration["num_tokens"]):
        yield _reason("calibration", "needs a digest and a positive number of tokens")


def _key_reasons(prefix: str, body: Mapping[str, object], keys: set[str]) -> Iterator[Reason]:
    for key in sorted(keys ^ body.keys()):
        yield _reason(prefix + key, "is missing" if key in keys else "is an unknown key")


def _is_shape(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_count, value))


def _is_count(value: object) -> bool:
    return type(value) is int and value > 0


def _reason(field: str, problem: str) -> Reason:
    return Reason(field=f"{FILE_NAME}:{field}", problem=problem, remedy=_REMEDY)
