"""What a training can be told, under the names that Hugging Face users know, and how that is read and checked."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
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
from graft.training.settings.limits import (
    BELOW_1,
    EPOCHS,
    MAX_LENGTH,
    MAX_ROWS,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    Limit,
    at_least,
    between,
    one_of,
    require,
)
from graft.training.settings.values import typed

NOT_YET = frozenset(("resume_from_checkpoint",))
"""Known names that no command can honour yet; saying so beats ignoring them."""
OF_ALIGN = frozenset(("beta", "loss_type"))
"""Known names that one command honours."""
SCHEDULE = frozenset(
    ("max_steps", "num_train_epochs", "warmup_ratio", "warmup_steps", "lr_scheduler_type", "lr_min_ratio")
)
"""Settings that are compared by what they make of the learning rates of the steps already taken."""
CONTROLS = frozenset(("save_steps", "save_total_limit", "keep_every", "spike_sigmas"))
"""Settings that whoever watches a training may change while it goes on."""
TENSORBOARD, WANDB = "tensorboard", "wandb"
"""What ``report_to`` may name."""
TOLD = frozenset(("validation", "eval_steps", "report_to", "tensorboard", "metrics_port", "report_examples"))
"""Settings that say what is measured and told of a training."""
ELSEWHERE = frozenset(
    (
        *("pp", "dp_replicate", "dp_shard", "cp", "tp", "zero_stage", "pipeline_schedule"),
        *("gradient_checkpointing", "torch_compile", "attn_implementation"),
        *("cpu_offload", "sync_each_batch"),
    )
)
"""Settings that say where and how a training runs, not what comes out. ``gradient_accumulation_steps`` counts for each
data-parallel process: only its product with their number is part of the result."""


_REPORTERS = f"{TENSORBOARD}, {WANDB}, both, or none; Prometheus is served where metrics_port is said"


def setting(default: Any, text: str, limit: Limit | None = None) -> Any:
    """A field with what ``--help`` says of it."""
    return dataclasses.field(default=default, metadata={"help": text, "limit": limit})


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """What every training has. Construction checks the values and raises ``ConfigurationError``."""

    learning_rate: float = setting(1e-3, "peak of the schedule", POSITIVE)
    per_device_train_batch_size: int = setting(16, "rows per forward pass", between(1, MAX_ROWS))
    gradient_accumulation_steps: int = setting(1, "forward passes per step and data-parallel process", at_least(1))
    num_train_epochs: float = setting(1.0, "times that all data are seen", EPOCHS)
    max_steps: int | None = setting(None, "optimizer steps, in place of --num-train-epochs", at_least(1))
    warmup_ratio: float = setting(0.05, "part of the steps in which the learning rate rises", BELOW_1)
    warmup_steps: int | None = setting(None, "the same in steps, in place of --warmup-ratio", NOT_NEGATIVE)
    lr_scheduler_type: str = setting(
        "cosine",
        "cosine, linear, constant, or wsd (constant, then down a line)",
        one_of("cosine", "linear", "constant", "wsd"),
    )
    lr_min_ratio: float = setting(0.0, "part of the peak that remains at the end", SHARE)
    weight_decay: float = setting(0.0, "of matrices; norms and biases have none", NOT_NEGATIVE)
    max_grad_norm: float = setting(1.0, "larger gradients are scaled down to it", POSITIVE)
    spike_sigmas: float = setting(
        6.0,
        "leave out steps whose loss or gradient stands so many standard deviations above those before; 0 leaves out "
        "only what is no number",
        Limit(holds=lambda value: 0 <= value < math.inf, text="0 or more, and finite"),
    )
    max_length: int = setting(512, "tokens per row", between(1, MAX_LENGTH))
    seed: int = setting(
        0,
        "decides weights and the order of data",
        Limit(holds=lambda value: 0 <= value < 2**32, text=f"from 0 to {2**32 - 1}"),
    )
    save_steps: int | None = setting(None, "checkpoint every so many steps", at_least(1))
    save_total_limit: int = setting(2, "of the checkpoints so many stay, the newest", at_least(1))
    keep_every: int | None = setting(None, "checkpoint every so many steps, and these stay for ever", at_least(1))
    validation: str | None = setting(None, "a file like the training's, that is held out and measured on")
    gradient_checkpointing: str | bool = setting(
        "none",
        "what blocks compute twice instead of keeping it: none, selective (all but attention and every other product) "
        "or full; alone it means full",
        one_of("none", "selective", "full"),
    )
    attn_implementation: str = setting(
        "auto",
        "auto (by where documents begin on a GPU, else as the model's class does), sdpa, eager, varlen, "
        "flash_attention_2 or flex_attention",
        one_of("auto", "sdpa", "eager", "varlen", "flash_attention_2", "flex_attention"),
    )
    torch_compile: bool | None = setting(None, "compile the blocks; default: pretraining does on GPUs")
    report_to: tuple[str, ...] = setting(
        (),
        "who hears of every step beside metrics.jsonl: tensorboard, wandb (its files beside the checkpoints, its "
        "account by WANDB_… variables) or none, separated by commas; for Prometheus say metrics_port",
        Limit(holds=lambda names: {TENSORBOARD, WANDB} >= set(names) or names == ("none",), text=_REPORTERS),
    )
    tensorboard: bool = setting(False, "the same as report_to tensorboard")
    metrics_port: int | None = setting(
        None,
        "serve Prometheus metrics on this port of 127.0.0.1",
        Limit(holds=lambda port: 0 < port < 65536, text="from 1 to 65535"),
    )
    eval_steps: int | None = setting(
        None, "measure on what is held out every so many steps; default: at the end", at_least(1)
    )
    pp: int = setting(1, "pipeline stages", at_least(1))
    dp_replicate: int = setting(1, "copies of the model", at_least(1))
    dp_shard: int | None = setting(None, "processes that share a copy; default: all that are left")
    cp: int = setting(1, "parts of every row", at_least(1))
    tp: int = setting(1, "parts of every matrix", at_least(1))
    zero_stage: int = setting(3, "dp_shard shards 1 the optimizer's state, 2 gradients, 3 weights too")
    pipeline_schedule: str = setting("1f1b", "1f1b or interleaved")

    def __post_init__(self) -> None:
        if isinstance(self.gradient_checkpointing, bool):
            object.__setattr__(self, "gradient_checkpointing", "full" if self.gradient_checkpointing else "none")
        for field in dataclasses.fields(self):
            value, limit = getattr(self, field.name), field.metadata["limit"]
            if value is not None and limit is not None:
                require(limit.holds(value), field.name, value, limit.text)
        self.mesh(1)

    def mesh(self, num_processes: int) -> Mesh:
        """How so many processes are arranged; whether that can be is ``Mesh.check``'s question."""
        sizes = {axis: getattr(self, axis) for axis in AXES if axis != "dp_shard"}
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
            if name in OF_ALIGN and name not in fields:
                raise ConfigurationError(f"setting {name!r} is for preferences: take `graft align`, or remove it.")
            if name not in fields:
                near = difflib.get_close_matches(name, fields, n=1)
                meant = f"did you mean {near[0]!r}?" if near else f"the settings are {', '.join(sorted(fields))}."
                raise ConfigurationError(f"unknown setting {name!r}; {meant}")
            checked[name] = typed(name, value, str(fields[name].type))
        return cls(**checked)


def add_flags(
    parser: argparse.ArgumentParser,
    kind: type[TrainingSettings],
    *,
    title: str = "settings",
    besides: type[TrainingSettings] | None = None,
) -> None:
    """A flag for every setting: ``--learning-rate 1e-3``, ``--packing`` and ``--no-packing``. None is required. Those
    of ``besides`` are there already: where they begin as something else, the group says so.
    """
    group = parser.add_argument_group(title, _otherwise(kind, besides))
    there = () if besides is None else {field.name for field in dataclasses.fields(besides)}
    for field in dataclasses.fields(kind):
        if field.name in there:
            continue
        flag = "--" + field.name.replace("_", "-")
        text = field.metadata["help"].replace("%", "%%")
        shown = "" if field.default in (None, ()) else f" ({field.default})"
        if field.type == "str | bool":
            group.add_argument(flag, nargs="?", const=True, metavar="VALUE", help=text + shown)
            group.add_argument(flag.replace("--", "--no-", 1), dest=field.name, action="store_false", default=None)
        elif str(field.type).startswith("bool"):
            group.add_argument(
                flag,
                dest=field.name,
                action=argparse.BooleanOptionalAction,
                default=None,
                help=text + shown,
            )
        else:
            group.add_argument(flag, dest=field.name, metavar="VALUE", help=text + shown)


def _otherwise(kind: type[TrainingSettings], besides: type[TrainingSettings] | None) -> str | None:
    """The settings that ``besides`` has, too, with another default."""
    others = {} if besides is None else {field.name: field.default for field in dataclasses.fields(besides)}
    found = [
        f"--{field.name.replace('_', '-')}: {field.metadata['help']}"
        + ("" if field.default is None else f" ({field.default})")
        for field in dataclasses.fields(kind)
        if others.get(field.name, field.default) != field.default
    ]
    return f"Of those above, {'; '.join(found)}." if found else None


def given(args: argparse.Namespace, kind: type[TrainingSettings]) -> dict[str, Any]:
    """The settings that flags name, and of the others those in the file of ``--config``; ``from_mapping`` checks them.

    Raises ``ConfigurationError`` where the file cannot be read.
    """
    names = [field.name for field in dataclasses.fields(kind)]
    flags = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return (read_settings(args.config) if args.config else {}) | flags


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
        """Without dates, which no setting is: one is text, whatever libraries have done to the loader. No key stands
        twice in a mapping.
        """

        yaml_implicit_resolvers: ClassVar = {
            first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if twice := next((key for key in keys if keys.count(key) > 1), None):
                raise BadLine(
                    f"the key {twice!r} stands twice in the mapping of line {node.start_mark.line + 1}; keep one."
                )
            return super().construct_mapping(node, deep)

    Loader.add_constructor("tag:yaml.org,2002:timestamp", yaml.SafeLoader.construct_yaml_str)
    try:
        return yaml.load(text, Loader) or {}  # a safe one
    except (yaml.YAMLError, ValueError) as error:  # `!!int x` is a ValueError
        raise BadLine(f"broken YAML: {' '.join(str(error).split())}") from None
