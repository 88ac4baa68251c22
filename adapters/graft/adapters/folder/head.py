"""A head for texts as PEFT saves it beside a LoRA: one linear layer on the last token's hidden state.

z = W h + b with W of shape (labels, width), as Hugging Face's `…ForSequenceClassification` of decoders compute it (they
have no b). What a trainer says of the outputs stands in `task.json`; a head without that file has outputs that are
called `LABEL_0`, `LABEL_1`, …, as transformers calls them, or is a number where there is one output only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from graft.adapters.errors import Reason
from graft.adapters.folder.strict_json import read_json_object
from graft.adapters.folder.tensor_header import TensorInfo, read_tensor_header

TASK_FILE = "task.json"
MAX_LABELS = 1000
BETWEEN_TEXTS = "\n"
"""What stands between the texts of a pair: a decoder is trained on it, and asked, as one text."""
_CONFIG, _TENSORS = "adapter_config.json", "adapter_model.safetensors"
_MAX_TASK_BYTES, _MAX_CONFIG_BYTES, _MAX_HEADER_BYTES = 1 << 20, 1 << 20, 16 << 20
_MAX_LABEL_CHARACTERS = 1000
_MODULES = ("score", "classifier")
_PART = re.compile(rf"base_model\.model\.(?P<module>{'|'.join(_MODULES)})\.(?P<part>weight|bias)\Z")
_OTHER_TASKS = {"TOKEN_CLS": "tags tokens", "QUESTION_ANS": "marks spans"}
_REMEDY = "train it with graft finetune --task text-classification, or measure it with graft evaluate heads"


class Problem(StrEnum):
    """What the outputs are, in Hugging Face's words: one class of several, any number of them, or a number."""

    ONE = "single_label_classification"
    SEVERAL = "multi_label_classification"
    NUMBER = "regression"


class Base(Protocol):
    """What of a base a head is compared with."""

    @property
    def name(self) -> str: ...
    @property
    def embedding_width(self) -> int | None: ...
    @property
    def vocab_size(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Head:
    """`labels` name the outputs in their order."""

    labels: tuple[str, ...]
    problem: Problem

    @property
    def num_labels(self) -> int:
        """The number of outputs."""
        return len(self.labels)


def part_of(name: str) -> tuple[str, str] | None:
    """Of a tensor's name the head's module and `weight` or `bias`; None where it is no part of a head."""
    match = _PART.match(name)
    return None if match is None else (match["module"], match["part"])


def num_labels_of(config: Mapping[str, object], tensors: Mapping[str, TensorInfo]) -> int:
    """Outputs of the head that the tensors hold; 0 where there is none for whole texts."""
    if config.get("task_type") != "SEQ_CLS":
        return 0
    weights = (info for name, info in tensors.items() if (part_of(name) or ("", ""))[1] == "weight")
    return next((info.shape[0] for info in weights if len(info.shape) == 2), 0)


def mismatches(
    config: Mapping[str, object], tensors: Mapping[str, TensorInfo], base: Base, *, max_labels: int
) -> Iterator[Reason]:
    """Everything that keeps the whole modules beside a LoRA from being a head that is served."""
    saved = config.get("modules_to_save") or ()
    others = sorted(str(one) for one in saved if one not in _MODULES) if isinstance(saved, list | tuple) else [saved]
    parts = {name: part for name in tensors if (part := part_of(name)) is not None}
    if not saved and not parts:
        return
    field = f"{_CONFIG}:modules_to_save"
    if others:
        problem = f"{str(others)[:200]}: of whole modules only a head ({' or '.join(_MODULES)}) is served beside a LoRA"
        yield Reason(field=field, problem=problem, remedy="train without them, or make a base of it: graft compile")
        return
    task = config.get("task_type")
    if task != "SEQ_CLS":
        what = _OTHER_TASKS.get(str(task), "says nothing of a text as a whole")
        problem = f"{task!r:.80} {what}, and a head is served that classifies texts (SEQ_CLS)"
        yield Reason(field=f"{_CONFIG}:task_type", problem=problem, remedy=_REMEDY)
        return
    if not max_labels:
        problem = "brings a head, and this engine computes none: heads are served by engines on CPUs"
        yield Reason(field=field, problem=problem, remedy="serve it on a CPU, or train without a head")
        return
    yield from _shape_reasons(parts, tensors, base, max_labels)


def _shape_reasons(
    parts: Mapping[str, tuple[str, str]], tensors: Mapping[str, TensorInfo], base: Base, max_labels: int
) -> Iterator[Reason]:
    weights = [name for name, (_, part) in parts.items() if part == "weight"]
    if len(weights) != 1:
        problem = f"holds {len(weights)} heads (base_model.model.score.weight); one is served"
        yield Reason(field=_TENSORS, problem=problem, remedy="save the adapter again with peft")
        return
    (name,) = weights
    shape, width = tensors[name].shape, base.embedding_width
    if width is None:
        problem = f"the base {base.name} has no embedding table under a name that is known here"
        yield Reason(field=f"{_TENSORS}:{name}", problem=problem, remedy="serve an adapter without a head")
    elif len(shape) != 2 or shape[1] != width:
        problem = f"has shape {list(shape)}; a head on {base.name} has [labels, {width}]"
        yield Reason(field=f"{_TENSORS}:{name}", problem=problem, remedy="it was trained on another base")
    elif not 1 <= shape[0] <= max_labels:
        problem = f"has {shape[0]} outputs; from 1 to {max_labels} are served"
        yield Reason(field=f"{_TENSORS}:{name}", problem=problem, remedy="train it for fewer labels")
    bias = name.replace(".weight", ".bias")
    if bias in tensors and tensors[bias].shape != shape[:1]:
        problem = f"has shape {list(tensors[bias].shape)} beside {list(shape)}"
        yield Reason(field=f"{_TENSORS}:{bias}", problem=problem, remedy="save the adapter again with peft")


def record_reasons(folder: Path, num_labels: int) -> list[Reason]:
    """What is wrong with `task.json` beside a head of so many outputs; nothing where there is none."""
    if not num_labels or not (folder / TASK_FILE).exists():
        return []
    body, reasons = read_json_object(folder / TASK_FILE, max_bytes=_MAX_TASK_BYTES)
    if reasons:
        return reasons
    return [
        Reason(field=f"{TASK_FILE}:{key}", problem=problem, remedy=_REMEDY) for key, problem in _wrong(body, num_labels)
    ]


def _wrong(body: Mapping[str, object], num_labels: int) -> Iterator[tuple[str, str]]:
    settings, labels, problem = body.get("settings"), body.get("labels"), body.get("problem_type")
    task = settings.get("task", "text-classification") if isinstance(settings, Mapping) else "text-classification"
    if task != "text-classification":
        yield "settings.task", f"is {task!r:.80}, and heads for text-classification are served"
    if problem is not None and problem not in [one.value for one in Problem]:
        yield "problem_type", f"is {problem!r:.80}, not one of {', '.join(Problem)}"
    if problem == Problem.NUMBER and num_labels != 1:
        yield "problem_type", f"is {problem}, which has one output; the head has {num_labels}"
    if labels is None:
        return
    if not isinstance(labels, list) or not all(
        isinstance(one, str) and len(one) <= _MAX_LABEL_CHARACTERS for one in labels
    ):
        yield "labels", f"must be a list of names of at most {_MAX_LABEL_CHARACTERS} characters"
    elif len(labels) != num_labels:
        yield "labels", f"names {len(labels)} labels, and the head is for another number: {num_labels}"
    elif len(set(labels)) != num_labels:
        yield "labels", "names two labels alike"


def num_labels_in(folder: Path) -> int:
    """Of the accepted adapter in `folder`; 0 where it brings no head. Raises `ValueError`."""
    config, reasons = read_json_object(folder / _CONFIG, max_bytes=_MAX_CONFIG_BYTES)
    if config.get("peft_type") != "LORA" or config.get("task_type") != "SEQ_CLS":
        return 0
    tensors, more = read_tensor_header(folder / _TENSORS, max_header_bytes=_MAX_HEADER_BYTES)
    if reasons or more:
        raise ValueError("; ".join(map(str, [*reasons, *more])))
    return num_labels_of(config, tensors)


def read_head(folder: Path, num_labels: int) -> Head:
    """Of an accepted folder whose head has so many outputs. Raises `ValueError`, `OSError`."""
    body: Mapping[str, object] = {}
    if (folder / TASK_FILE).exists():
        body, reasons = read_json_object(folder / TASK_FILE, max_bytes=_MAX_TASK_BYTES)
        if reasons:
            raise ValueError("; ".join(map(str, reasons)))
    names, problem = body.get("labels"), body.get("problem_type")
    labels = tuple(map(str, names)) if isinstance(names, list) else tuple(f"LABEL_{one}" for one in range(num_labels))
    usual = Problem.NUMBER if num_labels == 1 else Problem.ONE
    return Head(labels=labels, problem=usual if problem is None else Problem(str(problem)))
