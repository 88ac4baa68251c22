"""Real, small bases and adapters on disk, written with numpy and safetensors."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file

from graft.adapters.adapter import UNKNOWN_LINEAGE, AdapterFile, AdapterVersion, BaseIdentity, Lineage, Provenance
from graft.adapters.base.base import Base
from graft.adapters.compatibility import Limits
from graft.adapters.folder.record import TrainedRecord
from graft.adapters.form import ServingForm

if TYPE_CHECKING:
    from graft.adapters.catalog.catalog import Catalog

WIDTH, HIDDEN, NUM_LAYERS, VOCABULARY = 16, 32, 2, 40
SHAPES = {
    "self_attn.q_proj": (WIDTH, WIDTH),
    "self_attn.v_proj": (WIDTH // 2, WIDTH),
    "mlp.up_proj": (HIDDEN, WIDTH),
    "mlp.down_proj": (WIDTH, HIDDEN),
}
LIMITS = Limits(max_rank=16, max_bytes=1 << 20, max_virtual_tokens=100)
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def make_base(folder: Path, *, seed: int = 0, template: str | None = TEMPLATE, vocabulary: str = "abc") -> Base:
    """A folder as Hugging Face writes it, for a tiny Llama."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    tensors = {
        "model.embed_tokens.weight": rng.normal(size=(VOCABULARY, WIDTH)).astype(np.float32),
        "model.norm.weight": np.ones(WIDTH, np.float32),
    }
    for layer in range(NUM_LAYERS):
        for name, shape in SHAPES.items():
            tensors[f"model.layers.{layer}.{name}.weight"] = rng.normal(size=shape).astype(np.float32)
    save_file(tensors, folder / "model.safetensors")
    config = {"architectures": ["LlamaForCausalLM"], "vocab_size": VOCABULARY}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": list(vocabulary)}}))
    tokenizer: dict[str, Any] = {"eos_token": "</s>"} | ({"chat_template": template} if template else {})
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return Base.from_folder(folder)


def make_tensors(
    rank: int = 4, *, seed: int = 1, names: tuple[str, ...] = ("self_attn.q_proj", "mlp.down_proj")
) -> dict[str, Any]:
    """LoRA pairs for every layer of the tiny Llama."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for layer in range(NUM_LAYERS):
        for name in names:
            out_features, in_features = SHAPES[name]
            path = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{path}.lora_A.weight"] = rng.normal(size=(rank, in_features)).astype(np.float32)
            tensors[f"{path}.lora_B.weight"] = rng.normal(size=(out_features, rank)).astype(np.float32)
    return tensors


def make_adapter(
    folder: Path,
    *,
    rank: int = 4,
    seed: int = 1,
    tensors: Mapping[str, Any] | None = None,
    base: Base | None = None,
    form: ServingForm = ServingForm.NF4,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """A PEFT folder; with `base` also the graft.json that a trainer writes."""
    folder.mkdir(parents=True)
    save_file(
        dict(tensors) if tensors is not None else make_tensors(rank, seed=seed), folder / "adapter_model.safetensors"
    )
    body = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "down_proj"],
        "bias": "none",
        "init_lora_weights": True,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "rank_pattern": {},
        "alpha_pattern": {},
        "megatron_core": "megatron.core",
        "qalora_group_size": 16,
        "loftq_config": {},
    }
    (folder / "adapter_config.json").write_text(json.dumps(body | dict(config or {})))
    if base is not None:
        lineage = Lineage(job="jobs/1", data_digest="sha256:" + "d" * 64, code_version="0.1.0", seed=7)
        TrainedRecord(base=base.identity, form=form, lineage=lineage).write(folder)
    return folder


def write_raw_safetensors(path: Path, header: bytes | Mapping[str, Any], data: bytes = b"") -> Path:
    """A safetensors file with any header, right or wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


REFERENCE = BaseIdentity(
    weights_digest="sha256:" + "1" * 64,
    tokenizer_digest="sha256:" + "2" * 64,
    chat_template_digest=None,
    name="tiny",
)


def register(
    catalog: Catalog,
    content: str,
    *,
    adapter: str = "joe",
    tenant: str = "default",
    request_id: str | None = None,
    job: str | None = None,
    records: Mapping[str, Mapping[str, object]] = MappingProxyType({}),
) -> AdapterVersion:
    """Register a version whose one file hashes to `content` repeated."""
    from graft.adapters.catalog.versions import Draft  # processes that only write files start without a database

    draft = Draft(
        tenant=tenant,
        adapter=adapter,
        base=REFERENCE,
        form=ServingForm.NF4,
        rank=8,
        alpha=16,
        target_modules=("q_proj",),
        files=(AdapterFile(name="adapter_model.safetensors", size_bytes=3, sha256=(content * 64)[:64]),),
        provenance=Provenance.TRAINED,
        lineage=replace(UNKNOWN_LINEAGE, job=job),
        records=records,
    )
    return catalog.register_version(draft, request_id=request_id)
