"""What a fine-tuning can be told, under the names that Hugging Face users know."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.training.errors import ConfigurationError

NOT_YET = frozenset(
    (
        "beta",
        "loss_type",
        "bnb_4bit_quant_storage",
        "dp_replicate",
        "dp_shard",
        "tp",
        "pp",
        "cp",
        "resume_from_checkpoint",
    )
)
"""Known names that this command cannot honour; saying so beats ignoring them."""


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings:
    """Settings of one QLoRA training. Construction checks them and raises ``ConfigurationError``."""

    learning_rate: float = 2e-3
    """Peak. High, as the base is small and the matrices few; take 2e-4 for billions of parameters."""
    per_device_train_batch_size: int = 16
    """Rows per forward pass."""
    gradient_accumulation_steps: int = 1
    num_train_epochs: float = 3.0
    max_steps: int | None = None
    """Replaces ``num_train_epochs``."""
    warmup_ratio: float = 0.05
    lr_scheduler_type: str = "cosine"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_length: int = 512
    """Tokens of a row; a longer one is an error, not cut."""
    packing: bool = True
    assistant_only_loss: bool = True
    seed: int = 0
    save_steps: int | None = None
    """Checkpoint every so many steps; by default once an epoch."""
    r: int = 16
    lora_alpha: float = 32.0
    lora_dropout: float = 0.0
    target_modules: tuple[str, ...] | None = None
    """Default: every linear layer of the blocks."""
    use_rslora: bool = False
    load_in_4bit: bool = True
    """NF4, as the base is served by default; false trains on the bfloat16 base. A quantized folder stays as it is."""
    load_in_8bit: bool = False
    """LLM.int8 instead of NF4."""
    bnb_4bit_quant_type: str = "nf4"
    bnb_4bit_use_double_quant: bool = False
    bnb_4bit_compute_dtype: str = "bfloat16"

    def __post_init__(self) -> None:
        for name in (
            "per_device_train_batch_size",
            "gradient_accumulation_steps",
            "max_steps",
            "max_length",
            "save_steps",
            "r",
        ):
            value = getattr(self, name)
            if value is not None:
                _require(value >= 1, name, value, "at least 1")
        for name in ("learning_rate", "num_train_epochs", "max_grad_norm", "lora_alpha"):
            _require(0 < getattr(self, name) < float("inf"), name, getattr(self, name), "above 0")
        for name in ("warmup_ratio", "lora_dropout"):
            _require(0 <= getattr(self, name) < 1, name, getattr(self, name), "from 0 to below 1")
        _require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        _one_of("lr_scheduler_type", self.lr_scheduler_type, ("cosine", "linear", "constant"))
        _one_of("bnb_4bit_quant_type", self.bnb_4bit_quant_type, ("nf4",))
        _one_of("bnb_4bit_use_double_quant", self.bnb_4bit_use_double_quant, (False,))
        _one_of("bnb_4bit_compute_dtype", self.bnb_4bit_compute_dtype, ("bfloat16",))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> FinetuneSettings:
        """Raises ``ConfigurationError`` for an unknown name or a value of the wrong type."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        checked = {}
        for name, value in values.items():
            if name in NOT_YET:
                raise ConfigurationError(f"setting {name!r} is not supported by graft finetune; remove it.")
            if name not in fields:
                raise ConfigurationError(f"unknown setting {name!r}; the settings are {', '.join(sorted(fields))}.")
            checked[name] = _typed(name, value, str(fields[name].type))
        return cls(**checked)


def read_settings(path: Path) -> dict[str, Any]:
    """Reads a YAML, JSON or TOML file of settings, by its suffix.

    Raises:
        ConfigurationError: the file cannot be parsed or is not a mapping.
        OSError: it cannot be read.
    """
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix == ".toml":
            values: Any = tomllib.loads(text)
        elif path.suffix == ".json":
            values = json.loads(text)
        elif path.suffix in (".yaml", ".yml"):
            values = _yaml(text)
        else:
            raise ConfigurationError(
                f"{path}: {path.suffix!r} is no known kind of settings file; use .yaml, .json or .toml."
            )
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise ConfigurationError(f"{path} must hold settings as `name: value`, one per line.")
    return values


def _yaml(text: str) -> Any:
    import yaml  # type: ignore[import-untyped]  # its stubs are a distribution of their own

    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigurationError(f"broken YAML: {error}") from None


def _typed(name: str, value: Any, kind: str) -> Any:
    """Checks a value against its field's annotation; numbers written as text (YAML's ``2e-4``) count as numbers."""
    if value is None and kind.endswith("None"):
        return None
    if kind.startswith("tuple"):
        names = value.split(",") if isinstance(value, str) else value
        if isinstance(names, list | tuple) and names and all(isinstance(each, str) and each for each in names):
            return None if list(names) == ["all-linear"] else tuple(names)
    elif (kind.startswith("bool") and isinstance(value, bool)) or (kind.startswith("str") and isinstance(value, str)):
        return value
    elif kind.startswith(("int", "float")) and not isinstance(value, bool):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if kind.startswith("float") and number == number:
            return number
        if kind.startswith("int") and number.is_integer():
            return int(number)
    raise ConfigurationError(f"setting {name!r} has the value {value!r}; it must be of type {kind}.")


def _require(holds: bool, name: str, value: object, limit: str) -> None:
    if not holds:
        raise ConfigurationError(f"setting {name!r} has the value {value!r}; it must be {limit}.")


def _one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise ConfigurationError(
            f"setting {name!r} has the value {value!r}; it must be {' or '.join(map(repr, allowed))}."
        )
