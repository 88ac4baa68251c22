"""What the engine can serve is asked of vLLM before a process is started (cases C6, C7, T10, M1)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

from graft.adapters.base.base import Base
from graft.adapters.base.quantized import FILE_NAME
from graft.adapters.errors import InvalidBase
from graft.adapters.form import ServingForm
from graft.server.engine.vllm.environment import EngineSettings
from graft.server.engine.vllm.fitness import check_fitness
from graft.training.compress.quantize import Quantization
from tests.cases.harness.bases import change_config, make_base, save_by_transformers

FAMILIES = ("llama", "mistral", "qwen3", "olmo2", "pythia", "smollm")
OTHERS = ("bert", "roberta", "albert", "electra", "distilbert", "t5", "bart", "xlnet")

Make = Callable[[str], Path]


@pytest.fixture(scope="module")
def family_base(tmp_path_factory: pytest.TempPathFactory) -> Make:
    made: dict[str, Path] = {}

    def base(name: str) -> Path:
        if name not in made:
            made[name] = make_base(name, tmp_path_factory.mktemp("families") / name)
        return made[name]

    return base


def check(folder: Path, form: ServingForm = ServingForm.NF4, num_slots: int = 2, **others: int) -> None:
    settings = EngineSettings(base_path=folder, base_name=folder.name, form=form, num_slots=num_slots, **others)
    check_fitness(settings, Base.from_folder(folder).architecture)


def problems(folder: Path, form: ServingForm = ServingForm.NF4, num_slots: int = 2, **others: int) -> dict[str, str]:
    """By field; one line."""
    with pytest.raises(InvalidBase) as refused:
        check(folder, form, num_slots, **others)
    assert "\n" not in str(refused.value)
    return {reason.field: str(reason) for reason in refused.value.reasons}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_decoder_of_linear_layers_is_served_in_every_form_that_is_made_at_the_start(
    name: str, family_base: Make
) -> None:
    for form in (ServingForm.NF4, ServingForm.BF16, ServingForm.FP32):
        for num_slots in (0, 2):
            check(family_base(name), form, num_slots)


def test_c6_what_the_engine_serves_plain_and_alone_says_both_at_once(family_base: Make) -> None:
    said = problems(family_base("gpt2"))
    assert said.keys() == {"quantization", "num_slots"}
    assert "it can be as bf16, fp32" in said["quantization"] and "--quantization bf16" in said["quantization"]
    assert "--num-slots 0" in said["num_slots"]
    assert problems(family_base("gpt2"), ServingForm.BF16).keys() == {"num_slots"}
    assert problems(family_base("gpt2"), ServingForm.NF4, 0).keys() == {"quantization"}
    check(family_base("gpt2"), ServingForm.BF16, 0)


def test_a_mixture_of_experts_takes_adapters_and_is_plain_on_a_cpu(family_base: Make) -> None:
    """Its experts have no quantized kernels there."""
    said = problems(family_base("mixtral"))
    assert said.keys() == {"quantization"} and "--quantization bf16" in said["quantization"]
    check(family_base("mixtral"), ServingForm.BF16)


@pytest.mark.parametrize("name", OTHERS)
def test_c6_what_is_no_decoder_is_not_run_as_one(name: str, family_base: Make) -> None:
    said = problems(family_base(name), ServingForm.BF16, 0)
    assert said.keys() == {"config.json:architectures"}
    assert "LlamaForCausalLM" in said["config.json:architectures"]


@pytest.mark.parametrize("name", ["pythia", "llama", "qwen3"])
def test_c7_heads_that_the_kernel_does_not_take(name: str, tmp_path: Path) -> None:
    """Heads of 16; the sizes that are named are the kernel's own."""
    said = problems(make_base(name, tmp_path / name, num_heads=8), ServingForm.BF16, 0)
    assert said.keys() == {"config.json:num_attention_heads"}
    sizes = ", ".join(map(str, CPUAttentionBackend.get_supported_head_sizes()))
    assert f"heads of 16; the engine's kernel for CPUs takes {sizes}" in said["config.json:num_attention_heads"]


def test_t10_a_head_that_the_engine_would_leave_out(tmp_path: Path) -> None:
    base = make_base("llama", tmp_path / "llama")
    check(base)
    change_config(base, tie_word_embeddings=True)
    assert "lm_head.weight is another matrix" in problems(base)["config.json:tie_word_embeddings"]
    check(make_base("smollm", tmp_path / "smollm"))


def test_s6_bits_that_lie_where_the_engine_does_not_look(family_base: Make, tmp_path: Path) -> None:
    options = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    check(save_by_transformers(family_base("llama"), tmp_path / "bytes", **options))
    storage = {"bnb_4bit_quant_storage": torch.bfloat16}
    said = problems(save_by_transformers(family_base("llama"), tmp_path / "numbers", **options, **storage))
    assert "graft quantize" in said["config.json:quantization_config"]


def test_s6_packed_weights_that_no_kernel_takes(family_base: Make, tmp_path: Path) -> None:
    """Of 8 bits, the CPU's kernel takes one scale per output; another quantizer wrote one per group."""
    made = Quantization(
        base=Base.from_folder(family_base("llama")), form=ServingForm.INT8, output=tmp_path / "int8"
    ).execute()
    check(made.path, ServingForm.INT8)
    section = json.loads((made.path / "config.json").read_text())["quantization_config"]
    section["config_groups"]["group_0"]["weights"] |= {"strategy": "group", "group_size": 32}
    (made.path / FILE_NAME).unlink()
    change_config(made.path, quantization_config=section)
    said = problems(made.path, ServingForm.INT8)["config.json:quantization_config"]
    assert "8-bit weights in groups of 32 have no kernel here" in said


@pytest.mark.parametrize(("key", "value"), [("model_type", "foo"), ("hidden_size", "wide")])
def test_a_configuration_that_makes_no_model_is_named_in_one_line(key: str, value: str, tmp_path: Path) -> None:
    base = make_base("llama", tmp_path / "llama")
    change_config(base, **{key: value})
    said = problems(base)
    assert said.keys() == {"config.json"} and value in said["config.json"]


def test_more_tokens_than_the_base_was_made_for(family_base: Make) -> None:
    check(family_base("llama"), max_model_tokens=128)
    said = problems(family_base("llama"), max_model_tokens=5000)
    assert "is 5000, but the base was made for 128 tokens" in said["max_model_tokens"]
