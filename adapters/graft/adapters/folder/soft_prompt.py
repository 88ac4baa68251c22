"""A soft prompt as PEFT saves it: a matrix of virtual tokens that stand, embedded, before the tokens of every prompt.

Prompt tuning (Lester et al., arXiv:2104.08691) saves the matrix itself, P-tuning (Liu et al., arXiv:2103.10385) what
its encoder made of it. Multitask prompt tuning (Wang et al., arXiv:2303.02861, section 3.2) saves a matrix P that all
tasks share and factors of rank r for each task k: its prompt is P ∘ (u_k v_k).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from graft.adapters.errors import Reason
from graft.adapters.folder.strict_json import read_json_object
from graft.adapters.folder.tensor_header import TensorInfo, read_tensor_header

PEFT_TYPES = ("PROMPT_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING")
MATRIX, TASK_COLUMNS, TASK_ROWS = "prompt_embeddings", "prefix_task_cols", "prefix_task_rows"
_NAMES = """
    auto_mapping base_model_name_or_path encoder_dropout encoder_hidden_size encoder_num_layers
    encoder_reparameterization_type inference_mode modules_to_save num_attention_heads num_layers num_ranks num_tasks
    num_transformer_submodules num_virtual_tokens peft_type peft_version prompt_tuning_init
    prompt_tuning_init_state_dict_path prompt_tuning_init_task prompt_tuning_init_text revision task_type token_dim
    tokenizer_kwargs tokenizer_name_or_path
"""
WITHOUT_EFFECT = frozenset(_NAMES.split())
"""Keys of adapter_config.json that change nothing beside the tensors, or are checked here."""

_CONFIG, _TENSORS = "adapter_config.json", "adapter_model.safetensors"
_MAX_HEADER_BYTES, _MAX_CONFIG_BYTES = 16 << 20, 1 << 20
_DTYPES: Mapping[str, str] = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}


class Base(Protocol):
    """What of a base a soft prompt is compared with; `embedding_width` is None where it has no table that was found."""

    @property
    def name(self) -> str: ...
    @property
    def embedding_width(self) -> int | None: ...


def is_soft_prompt(config: Mapping[str, object]) -> bool:
    """Whether adapter_config.json is one of a soft prompt."""
    return config.get("peft_type") in PEFT_TYPES


def config_reasons(config: Mapping[str, object]) -> Iterator[Reason]:
    """What is malformed in a soft prompt's configuration, or makes it none of a decoder for one task."""
    count = config.get("num_virtual_tokens")
    if not (type(count) is int and 0 < count < 1 << 31):
        yield Reason(field=f"{_CONFIG}:num_virtual_tokens", problem=f"{count!r:.80} is not a positive integer")
    if config.get("num_transformer_submodules") not in (None, 1) or config.get("task_type") == "SEQ_2_SEQ_LM":
        problem = "is of a model with an encoder and a decoder: decoders are served here"
        yield Reason(field=f"{_CONFIG}:num_transformer_submodules", problem=problem, remedy="train it on a decoder")
    num_tasks = config.get("num_tasks", 1)
    if config["peft_type"] == "MULTITASK_PROMPT_TUNING" and num_tasks != 1:
        problem = f"{num_tasks!r:.80}: a version answers for one task, and no request could say for which"
        remedy = (
            "save each task's own matrix, prompt_embeddings * (prefix_task_cols[k] @ prefix_task_rows[k]), as "
            "PROMPT_TUNING, and push one adapter for each task"
        )
        yield Reason(field=f"{_CONFIG}:num_tasks", problem=problem, remedy=remedy)


def mismatches(
    config: Mapping[str, object], tensors: Mapping[str, TensorInfo], base: Base, *, max_virtual_tokens: int
) -> Iterator[Reason]:
    """Everything that keeps the tensors from being a soft prompt of `base` that leaves room for a prompt.

    `max_virtual_tokens` is 0 where none are served.
    """
    count, width = int(str(config["num_virtual_tokens"])), base.embedding_width
    if not max_virtual_tokens:
        remedy = (
            "start the server with --num-soft-prompts 256; a base that computes from token ids, beside their "
            "embeddings, takes none"
        )
        yield Reason(field=f"{_CONFIG}:peft_type", problem="soft prompts are not served here", remedy=remedy)
    elif count > max_virtual_tokens:
        problem = f"{count} virtual tokens leave no room: the context takes {max_virtual_tokens} before a prompt"
        remedy = "train with fewer, or serve with a longer context"
        yield Reason(field=f"{_CONFIG}:num_virtual_tokens", problem=problem, remedy=remedy)
    if width is None:
        problem = f"the base {base.name} has no embedding table under a name that is known here"
        yield Reason(field=_TENSORS, problem=problem, remedy="serve a LoRA adapter of it")
        return
    shapes = _shapes(config, tensors, count, width)
    for name, shape in shapes.items():
        if name not in tensors:
            yield Reason(field=f"{_TENSORS}:{name}", problem="is missing", remedy="save the adapter again with peft")
        elif tensors[name].shape != shape:
            problem = f"has shape {list(tensors[name].shape)}; {count} virtual tokens on {base.name} need {list(shape)}"
            remedy = "the number of virtual tokens or the base differs from the training's"
            yield Reason(field=f"{_TENSORS}:{name}", problem=problem, remedy=remedy)
    for name in sorted(tensors.keys() - shapes.keys())[:20]:
        remedy = f"only {', '.join(shapes)} are served of a soft prompt"
        yield Reason(field=f"{_TENSORS}:{name[:200]}", problem="is no part of a soft prompt", remedy=remedy)


def _shapes(
    config: Mapping[str, object], tensors: Mapping[str, TensorInfo], count: int, width: int
) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {MATRIX: (count, width)}
    if config["peft_type"] == "MULTITASK_PROMPT_TUNING":
        columns = tensors.get(TASK_COLUMNS)
        rank = columns.shape[-1] if columns is not None and len(columns.shape) == 3 else 1
        shapes |= {TASK_COLUMNS: (1, count, rank), TASK_ROWS: (1, rank, width)}
    return shapes


def virtual_tokens_in(folder: Path) -> int:
    """Of the accepted adapter in `folder`; 0 for a LoRA. Raises `ValueError`."""
    config = _config(folder)
    return int(str(config["num_virtual_tokens"])) if is_soft_prompt(config) else 0


def read_soft_prompt(folder: Path) -> NDArray[np.float32]:
    """The matrix (virtual tokens, width) of an accepted folder. Raises `ValueError` for a broken file, `OSError`."""
    tensors, reasons = read_tensor_header(folder / _TENSORS, max_header_bytes=_MAX_HEADER_BYTES)
    if reasons:
        raise ValueError("; ".join(map(str, reasons)))
    if MATRIX not in tensors:
        raise ValueError(f"{_TENSORS} holds no {MATRIX}")
    matrix_ND = _numbers(folder, tensors[MATRIX])
    if _config(folder).get("peft_type") != "MULTITASK_PROMPT_TUNING":
        return matrix_ND
    columns_NR, rows_RD = (_numbers(folder, tensors[name])[0] for name in (TASK_COLUMNS, TASK_ROWS))
    task_prompt_ND: NDArray[np.float32] = matrix_ND * (columns_NR @ rows_RD)
    return task_prompt_ND


def _config(folder: Path) -> Mapping[str, object]:
    config, reasons = read_json_object(folder / _CONFIG, max_bytes=_MAX_CONFIG_BYTES)
    if reasons:
        raise ValueError("; ".join(map(str, reasons)))
    return config


def _numbers(folder: Path, info: TensorInfo) -> NDArray[np.float32]:
    data: NDArray[np.uint8] = np.memmap(folder / _TENSORS, dtype=np.uint8, mode="r")
    raw = np.frombuffer(data[info.start : info.end].tobytes(), dtype=_DTYPES[info.dtype]).reshape(info.shape)
    if info.dtype == "BF16":  # the upper half of a float32
        raw = (raw.astype("<u4") << 16).view("<f4")
    return raw.astype(np.float32)
