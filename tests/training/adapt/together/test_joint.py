"""Members of one training beside the same trainings, each alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from graft.adapters.form import ServingForm
from graft.training.adapt.together.joint import Joint, _Turn
from graft.training.adapt.together.twin import twin
from graft.training.model.attention import varlen
from graft.training.model.casting import cast
from graft.training.model.loading import load_base
from graft.training.objective.attending import Circumstances, choose_attention
from tests.training.adapt.together.members import (
    SEVERAL,
    Member,
    Settings,
    joint,
    learn_together,
    rows_are_computed_alike,
)

NUM_STEPS = 6


def apart_and_together(
    base: PreTrainedModel, several: tuple[Settings, ...], *, dtype: torch.dtype, ending: dict[int, int] | None = None
) -> tuple[list[Member], list[Member]]:
    """``ending``: members that take fewer steps."""
    alone, members = ([Member.of(base, one, dtype=dtype) for one in several] for _ in range(2))
    made, ending = joint(base, members), ending or {}
    for number, one in enumerate(alone):
        for _ in range(ending.get(number, NUM_STEPS)):
            one.learn_alone()
    for step in range(NUM_STEPS):
        learn_together(
            made, members, [number for number in range(len(several)) if step < ending.get(number, NUM_STEPS)]
        )
    return alone, members


def difference(one: Member, other: Member) -> float:
    """The largest, of weights and of what was told."""
    weights = zip(one.step.state.masters.values(), other.step.state.masters.values(), strict=True)
    told = zip(one.told, other.told, strict=True)
    return max(
        *(float((first - second).detach().abs().max()) for first, second in weights),
        *(abs(first[name] - second[name]) for first, second in told for name in ("loss", "gradient_norm")),
    )


@pytest.mark.parametrize("by_documents", [False, True])
@pytest.mark.parametrize("form", [ServingForm.FP32, ServingForm.BF16, ServingForm.NF4])
def test_each_is_trained_as_it_would_be_alone(tiny_base: Path, form: ServingForm, by_documents: bool) -> None:
    """Other ranks, scales, rows, layers, learning rates, accumulation, dropout and lengths. In float32 those that are
    alone have peft's own layers.
    """
    if form is not ServingForm.FP32 and not rows_are_computed_alike():
        pytest.skip("this processor's 16-bit products round a row otherwise in other company")
    base = load_base(tiny_base, form)
    if by_documents:
        choose_attention(base, "auto", Circumstances(device="cpu", dtype=torch.bfloat16, learns_rows=True))
        assert base.config._attn_implementation == varlen.NAME
    dtype = torch.float32 if form is ServingForm.FP32 else torch.bfloat16
    alone, members = apart_and_together(base, SEVERAL, dtype=dtype, ending={2: 2, 0: 4})
    assert [difference(*pair) for pair in zip(alone, members, strict=True)] == pytest.approx([0.0] * 5, abs=1e-5)
    assert all(
        float(weight.detach().abs().max()) > 1e-3 for one in members for weight in one.step.state.masters.values()
    )
    assert [len(one.told) for one in members] == [4, 6, 2, 6, 6]
    for one, other in zip(alone, members, strict=True):
        assert torch.equal(one.generator.get_state(), other.generator.get_state()), "as much is drawn"


def test_padding_in_a_deeper_model(model: LlamaForCausalLM) -> None:
    """From the second layer on keys of padding are what attention made of them, and stand in the mean of a row's."""
    if not rows_are_computed_alike():
        pytest.skip("this processor's 16-bit products round a row otherwise in other company")
    base = cast(model, torch.bfloat16).requires_grad_(False)
    several = (Settings(seed=1, packing=False), Settings(seed=2, length=24), Settings(seed=3, length=80, rank=4))
    alone, members = apart_and_together(base, several, dtype=torch.bfloat16)
    assert [difference(*pair) for pair in zip(alone, members, strict=True)] == pytest.approx([0.0] * 3, abs=1e-5)


def test_a_window_and_biases_of_another_family(tiny_base: Path) -> None:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        attention_bias=True,
        use_sliding_window=True,
        sliding_window=5,
        max_window_layers=1,
        layer_types=["full_attention", "sliding_attention"],
    )
    base = Qwen3ForCausalLM(config).requires_grad_(False).eval()
    several = (Settings(seed=1), Settings(seed=2, length=20), Settings(seed=3, packing=False))
    alone, members = apart_and_together(base, several, dtype=torch.float32)
    assert [difference(*pair) for pair in zip(alone, members, strict=True)] == pytest.approx([0.0] * 3, abs=1e-5)


def test_numbers_of_one_reach_no_other(model: LlamaForCausalLM) -> None:
    base = model.requires_grad_(False)
    several = tuple(Settings(seed=seed) for seed in range(3))
    alone, members = apart_and_together(base, several, dtype=torch.float32)
    made = joint(base, members)
    next(iter(members[1].step.state.masters.values())).data.fill_(float("nan"))
    members[1].step.go_on(members[1].step.number)
    for number in (0, 2):
        alone[number].learn_alone()
    learn_together(made, members, [0, 1, 2])
    assert members[1].told[-1]["gradient_norm"] != members[1].told[-1]["gradient_norm"]
    assert difference(alone[0], members[0]) < 1e-5 and difference(alone[2], members[2]) < 1e-5


@pytest.mark.parametrize("form", [ServingForm.BF16, ServingForm.NF4])
def test_twins_have_the_same_weights_in_memory(tiny_base: Path, form: ServingForm) -> None:
    base = load_base(tiny_base, form)
    other = twin(base)
    places = [{name: one.data_ptr() for name, one in each.named_parameters()} for each in (base, other)]
    assert places[0] == places[1]
    layer, same = (each.get_submodule("model.layers.0.mlp.up_proj") for each in (base, other))
    assert layer is not same
    if form is ServingForm.NF4:
        assert layer.weight.quant_state.absmax is same.weight.quant_state.absmax
    ids = torch.arange(1, 9)[None]
    assert torch.equal(base(input_ids=ids).logits, other(input_ids=ids).logits)


def test_many_tokens_take_several_passes(model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """No result depends on which members share one."""
    made: list[int] = []
    whole = Joint._backward

    def one_pass(self: Joint, turns: Sequence[_Turn]) -> list[dict[str, torch.Tensor]]:
        made.append(len(turns))
        return whole(self, turns)

    monkeypatch.setattr(Joint, "_backward", one_pass)
    monkeypatch.setattr("graft.training.adapt.together.joint.TOKENS_PER_PASS", {"cpu": 100})
    base = model.requires_grad_(False)
    alone, members = apart_and_together(base, tuple(Settings(seed=seed) for seed in range(3)), dtype=torch.float32)
    assert all(difference(one, other) < 1e-5 for one, other in zip(alone, members, strict=True))
    assert {1, 2} <= set(made) and 3 not in made
