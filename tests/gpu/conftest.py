"""What runs on a CUDA device. Without one, every test says so and skips.

Run with `make test-gpu`, or as a part of `make gpu-report`, which needs torch and transformers alone for what is about
training.
"""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def device() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device is here")
