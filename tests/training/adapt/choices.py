"""What each method is asked for in tests."""

from __future__ import annotations

from typing import Any

METHODS: dict[str, dict[str, Any]] = {
    "lora": {"r": 4, "rank_pattern": {"q_proj": 2}},
    "rslora": {"r": 4},
    "dora": {"r": 4},
    "lora+": {"r": 4, "loraplus_lr_ratio": 2},
    "pissa": {"r": 4},
    "olora": {"r": 4, "use_rslora": True},
    "adalora": {"init_r": 4, "target_r": 2},
    "loha": {"r": 4},
    "lokr": {"r": 4},
    "vera": {"r": 4},
    "ia3": {},
    "oft": {"oft_block_size": 16},
    "trainable_tokens": {"trainable_tokens": ("a", "b", "7")},
    "prefix_tuning": {"num_virtual_tokens": 4},
    "prompt_tuning": {"num_virtual_tokens": 4, "prompt_tuning_init_text": "be kind"},
    "p_tuning": {"num_virtual_tokens": 4, "encoder_hidden_size": 16},
    "multitask_prompt_tuning": {"num_virtual_tokens": 4},
    "houlsby": {},
    "pfeiffer": {},
    "full": {},
}
"""By name; ``bitfit`` needs a base with biases."""
