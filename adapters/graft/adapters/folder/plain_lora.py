"""The configuration of a LoRA adapter whose scales lie in its matrices: alpha equals the rank everywhere, so that
W' = W + B A.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping


def plain_config(ranks: Mapping[str, int], *, layers: Collection[str], base: str, revision: str | None) -> bytes:
    """`adapter_config.json` of an adapter with these ranks by module; `layers` are the base's linear modules.

    The rank that most modules have is the adapter's, the others' stand in its patterns.
    """
    (rank, _), *_ = Counter(ranks.values()).most_common(1)
    others = {module: own for module, own in ranks.items() if own != rank}
    values = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "revision": revision,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": others,
        "alpha_pattern": others,
        "target_modules": _targets(ranks, layers),
        "bias": "none",
        "lora_dropout": 0.0,
        "init_lora_weights": True,
    }
    return (json.dumps(values, indent=2, sort_keys=True) + "\n").encode()


def _targets(modules: Collection[str], layers: Collection[str]) -> list[str]:
    """The last parts of the paths where these mean no other layer; else the paths."""
    names = {path.rpartition(".")[2] for path in modules}
    meant = {path for path in layers if path.rpartition(".")[2] in names}
    return sorted(names if meant == set(modules) else modules)
