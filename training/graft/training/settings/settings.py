"""What a training can be told, under the names that Hugging Face users know, and how that is read and checked."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from graft.adapters.text.file import read_text
from graft.adapters.text.json_values import parse_value
from graft.adapters.text.problems import BadLine, UnreadableText
from graft.training.errors import ConfigurationError
from graft.training.parallel.mesh import AXES, Mesh

NOT_YET = frozenset(("beta", "loss_type", "resume_from_checkpoint"))
"""Known names that no command can honour yet; saying so beats ignoring them."""


SCHEDULE = frozenset(
    ("max_steps", "num_train_epochs", "warmup_ratio", "warmup_steps", "lr_scheduler_type", "lr_min_ratio")
)
"""Settings that are compared by what they make of the learning rates of the steps already taken."""
CONTROLS = frozenset(("save_steps", "spike_sigmas"))
"""Settings that whoever watches a training may change while it goes on."""
ELSEWHERE = frozenset(("pp", "dp_replicate", "dp_shard", "cp", "tp", "zero_stage", "pipeline_schedule"))
"""Settings that say where a training runs, not what comes out. ``gradient_accumulation_steps`` counts for each
data-parallel process: only its product with their number is part of the result."""


def setting(default: Any, text: str) -> Any:
    """A field with what ``--help`` says of it."""
    return dataclasses.field(default=default, metadata={"help": text})


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """What every training has. Construction checks the values and raises ``ConfigurationError``."""

    learning_rate: float = setting(1e-3, "peak of the schedule")
    per_device_train_batch_size: int = setting(16, "rows per forward pass")
    gradient_accumulation_steps: int = setting(1, "forward passes per step and data-parallel process")
    num_train_epochs: float = setting(1.0, "times that all data are seen")
    max_steps: int | None = setting(None, "optimizer steps, in place of --num-train-epochs")
    warmup_ratio: float = setting(0.05, "part of the steps in which the learning rate rises")
    warmup_steps: int | None = setting(None, "the same in steps, in place of --warmup-ratio")
    lr_scheduler_type: str = setting("cosine", "cosine, linear, constant, or wsd (constant, then down a line)")
    lr_min_ratio: float = setting(0.0, "part of the peak that remains at the end")
    weight_decay: float = setting(0.0, "of matrices; norms and biases have none")
    max_grad_norm: float = setting(1.0, "larger gradients are scaled down to it")
    spike_sigmas: float = setting(
        6.0,
        "leave out steps whose loss or gradient stands so many standard deviations above those before; 0 leaves out "
        "only what is no number",
    )
    max_length: int = setting(512, "tokens per row")
    seed: int = setting(0, "decides weights and the order of data")
    save_steps: int | None = setting(None, "checkpoint every so many steps")
    pp: int = setting(1, "pipeline stages")
    dp_replicate: int = setting(1, "copies of the model")
    dp_shard: int | None = setting(None, "processes that share a copy; default: all that are left")
    cp: int = setting(1, "parts of every row")
    tp: int = setting(1, "parts of every matrix")
    zero_stage: int = setting(3, "dp_shard shards 1 the optimizer's state, 2 gradients, 3 weights too")
    pipeline_schedule: str = setting("1f1b", "1f1b or interleaved")

    def __post_init__(self) -> None:
        for name in (
            "per_device_train_batch_size",
            "gradient_accumulation_steps",
            "max_steps",
            "max_length",
            "save_steps",
        ):
            value = getattr(self, name)
            if value is not None:
                require(value >= 1, name, value, "at least 1")
        for name in ("learning_rate", "num_train_epochs", "max_grad_norm"):
            require(0 < getattr(self, name) < float("inf"), name, getattr(self, name), "above 0 and finite")
        require(0 <= self.seed < 2**32, "seed", self.seed, f"from 0 to {2**32 - 1}")
        require(0 <= self.warmup_ratio < 1, "warmup_ratio", self.warmup_ratio, "from 0 to below 1")
        if self.warmup_steps is not None:
            require(self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, "0 or more")
        require(0 <= self.spike_sigmas < float("inf"), "spike_sigmas", self.spike_sigmas, "0 or more, and finite")
        require(0 <= self.lr_min_ratio <= 1, "lr_min_ratio", self.lr_min_ratio, "from 0 to 1")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        one_of("lr_scheduler_type", self.lr_scheduler_type, ("cosine", "linear", "constant", "wsd"))
        self.mesh(1)

    def mesh(self, num_processes: int) -> Mesh:
        """How so many processes are arranged; whether that can be is ``Mesh.check``'s question."""
        sizes = {axis: getattr(self, axis) for axis in AXES if axis != "dp_shard"}
        for axis, size in sizes.items():
            require(size >= 1, axis, size, "at least 1")
        taken = sizes["pp"] * sizes["dp_replicate"] * sizes["cp"] * sizes["tp"]
        dp_shard = max(1, num_processes // taken) if self.dp_shard is None else self.dp_shard
        return Mesh(**sizes, dp_shard=dp_shard, zero_stage=self.zero_stage, schedule=self.pipeline_schedule)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Raises ``ConfigurationError`` for an unknown name or a value of the wrong type."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        checked = {}
        for name, value in values.items():
            if name in NOT_YET:
                raise ConfigurationError(f"setting {name!r} is not supported yet; remove it.")
            if name not in fields:
                near = difflib.get_close_matches(name, fields, n=1)
                meant = f"did you mean {near[0]!r}?" if near else f"the settings are {', '.join(sorted(fields))}."
                raise ConfigurationError(f"unknown setting {name!r}; {meant}")
            checked[name] = _typed(name, value, str(fields[name].type))
        return cls(**checked)


def add_flags(parser: argparse.ArgumentParser, kind: type[TrainingSettings]) -> None:
    """A flag for every setting: ``--learning-rate 1e-3``, ``--packing`` and ``--no-packing``. None is required."""
    group = parser.add_argument_group("settings")
    for field in dataclasses.fields(kind):
        flag = "--" + field.name.replace("_", "-")
        text = field.metadata["help"].replace("%", "%%")
        if field.type == "bool":
            group.add_argument(
                flag,
                dest=field.name,
                action=argparse.BooleanOptionalAction,
                default=None,
                help=f"{text} ({field.default})",
            )
        else:
            shown = "" if field.default in (None, ()) else f" ({field.default})"
            group.add_argument(flag, dest=field.name, metavar="VALUE", help=text + shown)


def given(args: argparse.Namespace, kind: type[TrainingSettings]) -> dict[str, Any]:
    """The settings that flags name; ``from_mapping`` checks them."""
    names = [field.name for field in dataclasses.fields(kind)]
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def read_settings(path: Path) -> dict[str, Any]:
    """Reads a YAML, JSON or TOML file of settings, by its suffix. Raises ``ConfigurationError``."""
    kind = path.suffix.lower()
    try:
        text = read_text(path)
        if kind == ".toml":
            values: Any = tomllib.loads(text)
        elif kind == ".json":
            values = parse_value(text)
        elif kind in (".yaml", ".yml"):
            values = _yaml(text)
        else:
            raise ConfigurationError(
                f"{path}: {path.suffix!r} is no known kind of settings file; use .yaml, .json or .toml."
            )
    except UnreadableText as error:
        raise ConfigurationError(str(error)) from None
    except (BadLine, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{path} cannot be read: it is nested too deep.") from None
    if not isinstance(values, dict):
        raise ConfigurationError(f"{path} must hold settings as `name: value`, one per line.")
    return values


def _yaml(text: str) -> Any:
    import yaml  # type: ignore[import-untyped]  # its stubs are a distribution of their own

    class Loader(yaml.SafeLoader):
        """Without dates, which no setting is: one is text, whatever libraries have done to the loader."""

        yaml_implicit_resolvers: ClassVar = {
            first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    Loader.add_constructor("tag:yaml.org,2002:timestamp", yaml.SafeLoader.construct_yaml_str)
    try:
        return yaml.load(text, Loader) or {}  # a safe one
    except (yaml.YAMLError, ValueError) as error:  # `!!int x` is a ValueError
        raise BadLine(f"broken YAML: {' '.join(str(error).split())}") from None


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


_UNITS = {"k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}


def number(name: str, text: str) -> float:
    """A positive number, as in ``250k``, ``2M``, ``1e21``. Raises ``ConfigurationError``."""
    try:
        value = float(text[:-1]) * _UNITS[text[-1]] if text[-1:] in _UNITS else float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise ConfigurationError(
            f"{name} has the value {text!r}; it must be a number above 0, such as 250k, 2M or 1e21."
        )
    return value


def require(holds: bool, name: str, value: object, limit: str) -> None:
    if not holds:
        raise ConfigurationError(f"setting {name!r} has the value {value!r}; it must be {limit}.")


def one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        told = " or ".join(repr(one) for one in allowed if one is not None)
        raise ConfigurationError(f"setting {name!r} has the value {value!r}; it must be {told}.")
