"""Packed rows are read as apart, whatever kinds of layers a decoder has, or they are refused (T11, number 17)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from graft.adapters.form import ServingForm
from graft.training.batch.packing import Encoded, PackedBatch, batch_of_rows
from graft.training.errors import ConfigurationError
from graft.training.model.loading import load_base
from graft.training.objective import packable
from graft.training.objective.causal import CausalObjective
from graft.training.objective.packable import check_causal, check_packing
from graft.training.parallel.mesh import Mesh

WINDOW = 6
SHARED: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WINDOWED = {"head_dim": 16, "sliding_window": WINDOW}
READ: dict[str, dict[str, Any]] = {
    "llama": {"sliding_window": WINDOW},  # which it does not know
    "gpt2": {},
    "gpt_neox": {},
    "opt": {"ffn_dim": 128, "word_embed_proj_dim": 64},
    "mistral": WINDOWED,
    "mixtral": {**WINDOWED, "num_local_experts": 4},
    "qwen3": {**WINDOWED, "use_sliding_window": True, "max_window_layers": 2},
    "gemma2": WINDOWED,
    "gemma3_text": {**WINDOWED, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "olmo3": {**WINDOWED, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "llama4_text": {"num_local_experts": 2, "intermediate_size_mlp": 128, "attention_chunk_size": 8, "head_dim": 16},
    "gpt_oss": {**WINDOWED, "num_local_experts": 4, "num_experts_per_tok": 2},  # eager only
    "gptj": {"rotary_dim": 8},  # eager only
}
REFUSED: dict[str, dict[str, Any]] = {
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "recurrent_gemma": {"lru_width": 64, "attention_window_size": WINDOW},
    "bloom": {},
    "mamba": {"state_size": 8},
}


def made(model_type: str, options: dict[str, Any]) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **SHARED | options))
    return model.eval()


def rows() -> list[Encoded]:
    """Longer than the window."""
    return [
        Encoded(input_ids=[(first + 7 * number) % 120 + 3 for number in range(size)], supervised=[True] * size)
        for size, first in ((20, 3), (30, 50), (9, 77))
    ]


def loss(model: PreTrainedModel, batch: PackedBatch) -> float:
    with torch.no_grad():
        return float(CausalObjective().sums(model, batch)["tokens"])


@pytest.mark.parametrize("model_type", READ)
def test_reading_17_packed_rows_are_read_as_apart(model_type: str) -> None:
    model = made(model_type, READ[model_type])
    check_packing(model)
    # Apart and without padding the model makes its masks itself.
    apart = [batch_of_rows([[row]], length=len(row.input_ids), pad_id=0) for row in rows()]
    expected = sum(loss(model, one) for one in apart)
    assert loss(model, batch_of_rows([rows()], length=64, pad_id=0)) == pytest.approx(expected, rel=1e-5)
    padded = sum(loss(model, batch_of_rows([[row]], length=48, pad_id=0)) for row in rows())
    assert padded == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("model_type", REFUSED)
def test_T11_layers_that_reach_over_a_border_are_refused(model_type: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"a {model_type} .*: rows cannot be packed\. Add --no-packing"):
        check_packing(made(model_type, REFUSED[model_type]))


@pytest.mark.parametrize("model_type", ["lfm2", "recurrent_gemma"])
def test_T11_without_packing_they_are_read_as_they_are(model_type: str) -> None:
    model = made(model_type, REFUSED[model_type])
    for row in rows():
        alone = loss(model, batch_of_rows([[row]], length=len(row.input_ids), pad_id=0))
        assert loss(model, batch_of_rows([[row]], length=32, pad_id=0)) == pytest.approx(alone, rel=1e-5)


def test_T11_looking_for_it_changes_nothing(tiny_base: Path) -> None:
    """In evaluation bitsandbytes packs NF4 for a kernel without a gradient: a training after that would go wrong."""
    model = load_base(tiny_base, ServingForm.NF4)
    before, drawn = {name: one.clone() for name, one in model.state_dict().items()}, torch.get_rng_state()
    check_causal(model)
    check_packing(model)
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(one, after[name]) for name, one in before.items())
    assert torch.equal(drawn, torch.get_rng_state()) and not model.training


def test_reading_17_a_pipeline_refuses_layers_of_different_kinds() -> None:
    config = made("qwen3", READ["qwen3"]).config
    with pytest.raises(ConfigurationError, match="pp cannot split a model whose layers differ in their attention"):
        Mesh(pp=2).check(config, num_processes=2, batches_per_step=2)


def test_a_lack_of_memory_is_not_taken_for_a_decoder_without_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*args: object, **fields: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    model = made("gpt2", {})
    monkeypatch.setattr(packable.Probe, "leaks", exhausted)
    with pytest.raises(torch.OutOfMemoryError):
        check_packing(model)
