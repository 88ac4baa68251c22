"""What one request may hold fits vLLM's model runner on GPUs, which ends the engine at one more.

Its classes are read here; none of its kernels runs without a GPU.
"""

from __future__ import annotations

import numpy as np
import pytest
from vllm.v1.worker.gpu.sample import logit_bias

from graft.server.api.limits import (
    MAX_BAD_WORDS_BYTES,
    MAX_CHOICES,
    MAX_LIST_ENTRIES,
    MAX_LOGIT_BIASES,
    MAX_STOP_TOKEN_IDS,
)
from graft.server.engine.vllm.conversion import usable_seed
from tests.server.engine.vllm.devices.simulated import CUDA, SETTINGS

_MOST_ENDS = 16  # that a base names itself; Llama 3's three are many


def test_lists_of_tokens_fit() -> None:
    assert MAX_LIST_ENTRIES <= logit_bias.MAX_NUM_ALLOWED_TOKEN_IDS
    assert MAX_LOGIT_BIASES <= logit_bias.MAX_NUM_LOGIT_BIAS_TOKENS
    assert MAX_STOP_TOKEN_IDS + _MOST_ENDS <= logit_bias.MAX_NUM_STOP_TOKEN_IDS


def test_bad_words_fit() -> None:
    """A token has a byte at least, and each word is tokenized with a space and without."""
    num_words = 64  # vLLM refuses more than 128 after it has tokenized each twice
    most = 2 * MAX_BAD_WORDS_BYTES + num_words
    assert most <= int(CUDA.variables(SETTINGS)["VLLM_MAX_BAD_WORDS_TOTAL_TOKENS"])


@pytest.mark.parametrize("seed", [2**63 - 1, -1, -(2**63), 0, 7])
def test_every_choices_seed_fits(seed: int) -> None:
    """The runner puts them into an array of this type; choice n of a request has the seed plus n."""
    found = usable_seed(seed)
    assert found is not None
    np.zeros(1, np.int64)[0] = found + MAX_CHOICES - 1
    assert found >= 0
