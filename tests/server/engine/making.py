"""What the engine tests make: settings, and adapters with a strong, known effect."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.server.engine.engine import EngineAdapter
from graft.server.engine.vllm.environment import EngineSettings


def engine_settings(base: Base, **changes: object) -> EngineSettings:
    # As many slots as adapters: stock vLLM answers rows of the base from the *last* slot, so it must be filled.
    defaults = {"form": ServingForm.FP32, "num_slots": 4, "max_rank": 64, "max_running": 32}
    return EngineSettings(base_path=base.path, base_name=base.name, **{**defaults, **changes})  # type: ignore[arg-type]


def write_adapter(folder: Path, modules: Mapping[str, tuple[int, int]], *, rank: int, seed: int) -> Path:
    """A PEFT folder with random weights on every given module, large enough to change what is said."""
    random = np.random.default_rng(seed)
    tensors = {}
    for module, (outputs, inputs) in modules.items():
        name = f"base_model.model.{module}"
        tensors[f"{name}.lora_A.weight"] = random.normal(0, inputs**-0.5, (rank, inputs)).astype(np.float32)
        tensors[f"{name}.lora_B.weight"] = random.normal(0, 0.25, (outputs, rank)).astype(np.float32)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    targets = sorted({module.rpartition(".")[2] for module in modules})
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank, "target_modules": targets}
    (folder / "adapter_config.json").write_text(json.dumps({**config, "bias": "none", "lora_dropout": 0.0}))
    return folder


def adapters_of_all_ranks(base: Base, root: Path) -> tuple[EngineAdapter, ...]:
    """Four adapters of ranks 1, 8, 16 and 64 on every linear layer of the blocks."""
    layers = {name: shape for name, shape in base.modules.items() if ".layers." in name}
    return tuple(
        EngineAdapter(
            digest=f"sha256:test-{seed}",
            engine_id=seed,
            path=write_adapter(root / str(seed), layers, rank=rank, seed=seed),
        )
        for seed, rank in ((1, 1), (2, 8), (3, 16), (4, 64))
    )


def write_classifier(
    folder: Path,
    base: Base,
    *,
    labels: Sequence[str] = (),
    num_labels: int = 0,
    rank: int = 4,
    seed: int,
    **record: object,
) -> Path:
    """`write_adapter` on the blocks, with a head of so many outputs; their names in `task.json` where there are any."""
    layers = {name: shape for name, shape in base.modules.items() if ".layers." in name}
    write_adapter(folder, layers, rank=rank, seed=seed)
    assert base.embedding_width is not None
    shape, file = (num_labels or len(labels), base.embedding_width), folder / "adapter_model.safetensors"
    score = np.random.default_rng(seed).normal(0, 4 * base.embedding_width**-0.5, shape).astype(np.float32)
    save_file({**load_file(file), "base_model.model.score.weight": score}, file, metadata={"format": "pt"})
    config = json.loads((folder / "adapter_config.json").read_text())
    config |= {"task_type": "SEQ_CLS", "modules_to_save": ["classifier", "score"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    if labels or record:
        (folder / "task.json").write_text(json.dumps({"labels": list(labels) or None, **record}))
    return folder


def peft_logits(base: Base, adapter: Path, rows: Sequence[Sequence[int]], num_labels: int) -> list[list[float]]:
    """The oracle: what transformers' and peft's classifier says of each row alone, in float32."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    plain = AutoModelForSequenceClassification.from_pretrained(
        base.path, num_labels=num_labels, dtype=torch.float32, pad_token_id=0
    )
    model = PeftModel.from_pretrained(plain, adapter).eval()
    with torch.no_grad():
        return [model(torch.tensor([list(row)])).logits[0].tolist() for row in rows]


def write_soft_prompt(folder: Path, base: Base, *, num_tokens: int, seed: int) -> Path:
    """A PEFT folder of virtual tokens that lie between those of the vocabulary, and so say something."""
    random = np.random.default_rng(seed)
    table = _embeddings(base)
    weights = random.dirichlet(np.full(3, 0.5), num_tokens)
    mixed = weights[:, :, None] * table[random.integers(len(table), size=(num_tokens, 3))]
    return write_virtual_tokens(folder, mixed.sum(1).astype(np.float32))


def write_virtual_tokens(folder: Path, prompt_ND: NDArray[np.float32]) -> Path:
    """A PEFT folder of prompt tuning with this matrix."""
    folder.mkdir(parents=True)
    save_file({"prompt_embeddings": prompt_ND}, folder / "adapter_model.safetensors")
    config = {"peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": len(prompt_ND)}
    config |= {"num_transformer_submodules": 1, "token_dim": prompt_ND.shape[1], "inference_mode": True}
    (folder / "adapter_config.json").write_text(json.dumps({**config, "num_layers": 1, "num_attention_heads": 1}))
    return folder


def soft_prompts(base: Base, root: Path, *sizes: int) -> tuple[EngineAdapter, ...]:
    """One of so many virtual tokens each."""
    return tuple(
        EngineAdapter(
            digest=f"sha256:soft-{root.name}-{number}",
            engine_id=1000 + number,
            path=write_soft_prompt(root / str(number), base, num_tokens=size, seed=number),
            num_virtual_tokens=size,
        )
        for number, size in enumerate(sizes)
    )


def _embeddings(base: Base) -> NDArray[np.float32]:
    from safetensors import safe_open

    with safe_open(base.path / "model.safetensors", "pt") as file:  # numpy has no bfloat16
        table: NDArray[np.float32] = file.get_tensor("model.embed_tokens.weight").float().numpy()
    return table


def peft_logprobs(base: Base, adapter: Path, ids: Sequence[int], start: int, *, dtype: str) -> list[float]:
    """The oracle: log p of `ids[start:]` by peft on the same base, held in torch's `dtype`."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(base.path, dtype=getattr(torch, dtype))
    model = PeftModel.from_pretrained(plain, adapter).eval()
    with torch.no_grad():
        # Of a soft prompt, logits stand behind its virtual tokens, too.
        logprobs = model(torch.tensor([list(ids)])).logits[0, -len(ids) :].float().log_softmax(-1)
    return [float(logprobs[at - 1, ids[at]]) for at in range(start, len(ids))]
