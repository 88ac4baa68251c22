"""Of a base that is sharded a process reads and holds its parts, in each form, and learns as one process does."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from graft.adapters.form import ServingForm
from graft.training.adapt.methods.through_peft import inject
from graft.training.adapt.parts import STORAGE, BaseInParts
from graft.training.job.export import write_base
from graft.training.loop.optim import adamw
from graft.training.loop.step import Step
from graft.training.model import loading
from graft.training.model.deferred import Part
from graft.training.model.loading import CPU, load_base
from graft.training.objective.causal import CausalObjective
from graft.training.parallel.buckets import local
from graft.training.parallel.distributed import Distributed
from graft.training.parallel.filling import part_of
from graft.training.parallel.layout import Alone, Layout
from graft.training.parallel.mesh import Mesh
from graft.training.rootstock.recipe import llama_config
from tests.training.objective.tiny_models import tiny
from tests.training.parallel.test_filling import Allocated
from tests.training.parallel.test_tensor import batch
from tests.training.parallel.threads import in_threads

NUM_STEPS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    made = tmp_path_factory.mktemp("bases") / "eight"
    torch.manual_seed(0)
    config = llama_config(tokenizer, width=128, num_layers=8)
    config.intermediate_size = 512
    write_base(LlamaForCausalLM(config).to(torch.bfloat16), tokenizer, made, card="# eight\n")
    return made


def adapted(base: PreTrainedModel) -> PeftModel:
    """Adapters are float32, so that rounding decides nothing, and have learned something."""
    torch.manual_seed(0)
    names = ["c_attn"] if base.config.model_type == "gpt2" else ["q_proj", "o_proj"]
    model = inject(base, LoraConfig(r=4, target_modules=names, task_type=TaskType.CAUSAL_LM), base_name="base")
    for one in model.parameters():
        if one.requires_grad:
            one.data = torch.randn(one.shape) / 10
    return model


def in_parts(folder: Path, form: ServingForm, layout: Distributed) -> PeftModel:
    parts = BaseInParts.of(folder, form)
    assert parts is not None
    model = parts.adapted(adapted)
    layout.apply(model)
    parts.fill(model, CPU)
    return model


def are_same(one: Tensor, other: Tensor) -> bool:
    """To the bit: NF4's, read as numbers, are none at times."""
    return one.dtype == other.dtype and torch.equal(one.view(torch.uint8), other.contiguous().view(torch.uint8))


@pytest.mark.parametrize("form", [ServingForm.BF16, ServingForm.FP32, ServingForm.NF4])
def test_a_process_holds_its_share_and_one_parameter(
    form: ServingForm, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = adapted(load_base(folder, form, storage=STORAGE))
    frozen = {name: one for name, one in whole.named_parameters() if not one.requires_grad}
    read: dict[int, list[int]] = {}
    real = loading._read

    def counted(path: Path, name: str, part: Part) -> Tensor:
        found = real(path, name, part)
        read.setdefault(threading.get_ident(), []).append(found.nbytes)
        return found

    monkeypatch.setattr(loading, "_read", counted)
    one_at_a_time = threading.Lock()  # a module's registration of parameters is all threads'

    def place(rank: int) -> tuple[int, list[int]]:
        layout = Distributed(Mesh(dp_shard=4))
        with one_at_a_time, Allocated() as allocated:
            model = in_parts(folder, form, layout)
        for name, one in model.named_parameters():
            if not one.requires_grad:
                assert isinstance(one, DTensor) and are_same(local(one), frozen[name].data[part_of(one)]), name
        for (name, one), (_, other) in zip(model.named_buffers(), whole.named_buffers(), strict=True):
            assert one.dtype == other.dtype and torch.equal(one, other), name
        for (name, there), (_, here) in zip(model.named_modules(), whole.named_modules(), strict=True):
            if getattr(here, "quant_state", None) is not None:
                assert torch.equal(there.quant_state.absmax, here.quant_state.absmax), name
        return allocated.most, read[threading.get_ident()]

    plain = LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    size, largest = (how(one.nbytes for one in plain.parameters()) for how in (sum, max))
    for most, pieces in in_threads(4, place):
        held = {ServingForm.BF16: size / 4, ServingForm.FP32: size / 2, ServingForm.NF4: 0.32 * size}[form]
        assert most < held + 8 * largest and max(pieces) <= largest
        if form is not ServingForm.NF4:
            assert sum(pieces) < 0.26 * size


def learned(model: nn.Module, layout: Layout) -> list[float]:
    """Losses and norms, in turn."""
    step = Step(model, objective=CausalObjective(), optimizers=adamw(), layout=layout)
    found = []
    for _ in range(NUM_STEPS):
        metrics = step.learn(step.prepare([batch()] * (4 // layout.share.num)), 1e-2)
        found += [metrics["loss"], metrics["gradient_norm"]]
    return found


@pytest.mark.parametrize("form", [ServingForm.FP32, ServingForm.NF4])
@pytest.mark.parametrize("mesh", [Mesh(dp_shard=2), Mesh(dp_shard=2, zero_stage=2)], ids=["zero3", "zero2"])
def test_losses_and_norms_are_those_of_one_process(form: ServingForm, mesh: Mesh, folder: Path) -> None:
    expected = learned(adapted(load_base(folder, form, storage=STORAGE)), Alone())
    one_at_a_time = threading.Lock()

    def learn(rank: int) -> list[float]:
        layout = Distributed(mesh)
        with one_at_a_time:
            model = in_parts(folder, form, layout)
        with torch.no_grad():  # as a training looks at its model before it begins
            model(input_ids=torch.tensor([[3, 4, 5]]))
        layout.rest(model)
        assert all(isinstance(one, DTensor) for one in model.parameters())
        return learned(model, layout)

    # What 4-bit layers compute in bfloat16 rounds the small changes of later steps either way.
    tolerance = 1e-5 if form is ServingForm.FP32 else 2e-3
    for found in in_threads(2, learn):
        assert found[:1] == pytest.approx(expected[:1], rel=1e-5)
        assert found == pytest.approx(expected, rel=tolerance)
    assert expected[-2] < expected[0]


def test_layers_that_lie_the_other_way_round(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """GPT-2's are turned while they are quantized."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=128, n_layer=1, n_head=2, n_positions=64)
    write_base(GPT2LMHeadModel(config).to(torch.bfloat16), tokenizer, tmp_path / "base", card="")
    whole = dict(adapted(load_base(tmp_path / "base", ServingForm.NF4, storage=STORAGE)).named_parameters())

    one_at_a_time = threading.Lock()

    def place(rank: int) -> None:
        layout = Distributed(Mesh(dp_shard=2))
        with one_at_a_time:
            model = in_parts(tmp_path / "base", ServingForm.NF4, layout)
        for name, one in model.named_parameters():
            assert are_same(local(one), whole[name].data[part_of(one)]), name

    in_threads(2, place)


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("qwen3_5_text", ServingForm.BF16),  # a parameter is made from another one
        ("gptj", ServingForm.BF16),  # sines of places, which are computed with what numbers are made of at the time
        ("gemma3n_text", ServingForm.NF4),  # the last layer, which stays, is another one while weights are not tied
    ],
)
def test_all_is_as_hugging_face_loads_it(
    kind: str, form: ServingForm, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    base = tiny(kind, vocab_size=len(tokenizer), vocab_size_per_layer_input=len(tokenizer)).to(torch.bfloat16)
    write_base(base, tokenizer, tmp_path / "base", card="")
    whole = adapted(load_base(tmp_path / "base", form, storage=STORAGE))
    parts = BaseInParts.of(tmp_path / "base", form)
    assert parts is not None
    model = parts.adapted(adapted)
    parts.fill(model, CPU)
    for name, expected in whole.named_parameters():
        assert are_same(model.get_parameter(name).detach(), expected.detach()), name
    for name, expected in whole.named_buffers():
        assert model.get_buffer(name).dtype == expected.dtype and torch.equal(model.get_buffer(name), expected), name
    assert len(list(model.parameters())) == len(list(whole.parameters()))


def test_what_is_not_read_in_parts_is_said_to_be_so(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    config = MixtralConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, num_local_experts=2,
    )  # fmt: skip
    write_base(MixtralForCausalLM(config).to(torch.bfloat16), tokenizer, tmp_path / "base", card="")
    assert BaseInParts.of(tmp_path / "base", ServingForm.BF16) is None
