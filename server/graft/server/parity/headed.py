"""What an adapter's head says of beginnings of a row, as transformers and peft compute it: W h + b on the last state.

Said with the base's language model, in which peft has put the LoRA: a classifier of transformers' would be a second
copy of the base. Outputs are compared as asinh z: as numbers up to one, by their ratios beyond, where float's errors
grow with them. A head of zeros says 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graft.adapters.folder.head import part_of

_NUM_BEGINNINGS = 4


def told(outputs: Sequence[float]) -> list[float]:
    """What receipts compare of a head's outputs."""
    return [math.asinh(one) for one in outputs]


def without_head(config: Any, weights: dict[str, Any]) -> dict[str, Any]:
    """The weights of the LoRA alone, and its configuration made one of a language model's."""
    config.task_type, config.modules_to_save = "CAUSAL_LM", None
    return {name: tensor for name, tensor in weights.items() if part_of(name) is None}


def head_rows(model: Any, folder: str, row: Sequence[int]) -> list[dict[str, object]]:
    """As an oracle answers: for a few beginnings of a row that are longer and longer, what the head says of each.

    `model` is peft's.
    """
    import torch
    from safetensors.torch import load_file

    tensors = load_file(Path(folder) / "adapter_model.safetensors")
    head = {part[1]: tensor.float() for name, tensor in tensors.items() if (part := part_of(name)) is not None}
    language = model.get_base_model()
    inner = getattr(language, language.base_model_prefix)
    hidden_LH = inner(input_ids=torch.tensor([list(row)])).last_hidden_state[0].float()
    outputs_LN = torch.nn.functional.linear(hidden_LH, head["weight"], head.get("bias"))
    lengths = sorted({max(1, len(row) * part // _NUM_BEGINNINGS) for part in range(1, _NUM_BEGINNINGS + 1)})
    return [
        {"token_ids": list(row[:end]), "num_prompt_tokens": end, "logprobs": told(outputs_LN[end - 1].tolist())}
        for end in lengths
    ]
