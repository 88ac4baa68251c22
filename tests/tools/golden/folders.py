"""Adapters and bases made on the spot for the shipped base: the same bytes each time, right and wrong ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from graft.v1 import adapter_pb2, base_pb2

_CHUNK_BYTES = 1 << 16
_WIDTH, _HIDDEN, _NUM_LAYERS = 256, 704, 5
_SHAPES = {"self_attn.q_proj": (_WIDTH, _WIDTH), "mlp.down_proj": (_WIDTH, _HIDDEN)}


def write_adapter(
    folder: Path, *, seed: int, rank: int = 8, noop: bool = False, config: Mapping[str, Any] | None = None
) -> Path:
    """A PEFT folder with random weights, large enough to change what is said."""
    random = np.random.default_rng(seed)
    tensors = {}
    for layer in range(_NUM_LAYERS):
        for module, (outputs, inputs) in _SHAPES.items():
            name = f"base_model.model.model.layers.{layer}.{module}"
            b = np.zeros((outputs, rank)) if noop else random.normal(0, 0.25, (outputs, rank))
            tensors[f"{name}.lora_A.weight"] = random.normal(0, inputs**-0.5, (rank, inputs)).astype(np.float32)
            tensors[f"{name}.lora_B.weight"] = b.astype(np.float32)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    body = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank, "bias": "none"}
    body |= {"target_modules": ["down_proj", "q_proj"], "lora_dropout": 0.0, **(config or {})}
    (folder / "adapter_config.json").write_text(json.dumps(body))
    return folder


def write_record(folder: Path, base: Mapping[str, str], *, form: str = "nf4", **others: Any) -> Path:
    """`graft.json`, as a trainer of today leaves it."""
    names = ("digest", "weights_digest", "tokenizer_digest", "chat_template_digest", "config_digest", "name")
    lineage = {"job": "jobs/golden", "data_digest": "sha256:" + "d" * 64, "code_version": "0.1.0", "seed": 7}
    body = {"base": {name: base[name] for name in names}, "form": form, "lineage": lineage, **others}
    (folder / "graft.json").write_text(json.dumps(body, indent=2, sort_keys=True) + "\n")
    return folder


def write_reference(folder: Path, ids: list[int], num_prompt: int, logprobs: list[float]) -> Path:
    """`reference.json`, as a trainer of today leaves it."""
    row = {"token_ids": ids, "num_prompt_tokens": num_prompt, "logprobs": logprobs}
    (folder / "reference.json").write_text(json.dumps({"form": "nf4", "rows": [row]}) + "\n")
    return folder


def write_base(folder: Path, shipped: Path, **config: Any) -> Path:
    """The shipped base with another config."""
    folder.mkdir(parents=True)
    for path in shipped.iterdir():
        data = path.read_bytes()
        if path.name == "config.json":
            data = json.dumps({**json.loads(data), **config}).encode()
        (folder / path.name).write_bytes(data)
    return folder


def upload(folder: Path, adapter: str, **header: Any) -> list[adapter_pb2.UploadVersionRequest]:
    """The header with sizes and digests, then the bytes in chunks."""
    first = adapter_pb2.UploadVersionRequest(
        header=adapter_pb2.UploadHeader(adapter=adapter, files=_described(folder), **header)
    )
    return [first, *(adapter_pb2.UploadVersionRequest(chunk=chunk) for chunk in _chunks(folder))]


def upload_base(folder: Path, name: str, **header: Any) -> list[base_pb2.UploadBaseRequest]:
    first = base_pb2.UploadBaseRequest(header=base_pb2.UploadBaseHeader(name=name, files=_described(folder), **header))
    return [first, *(base_pb2.UploadBaseRequest(chunk=chunk) for chunk in _chunks(folder))]


def _described(folder: Path) -> list[adapter_pb2.AdapterFile]:
    found = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        found.append(adapter_pb2.AdapterFile(name=path.name, size_bytes=len(data), sha256=sha256))
    return found


def _chunks(folder: Path) -> Iterator[adapter_pb2.UploadChunk]:
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        for start in range(0, len(data), _CHUNK_BYTES):
            yield adapter_pb2.UploadChunk(file=path.name, data=data[start : start + _CHUNK_BYTES])
