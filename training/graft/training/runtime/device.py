"""Where this process computes."""

from __future__ import annotations

import torch


def device_kind() -> str:
    """``cuda`` where torch sees a GPU, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def own_device(kind: str) -> torch.device:
    """Of a kind the one that is this process's own: of several GPUs that which its launcher gave it."""
    return torch.device(kind, torch.cuda.current_device()) if kind == "cuda" else torch.device(kind)
