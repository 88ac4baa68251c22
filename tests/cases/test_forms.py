"""Quantizing: what a form holds of each family, what it leaves outside, and what is refused before a number is read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from graft.adapters.base.base import Base
from graft.adapters.base.quantized import FILE_NAME
from graft.adapters.errors import InvalidBase
from graft.adapters.form import ServingForm
from graft.training.compress.calibration import CalibrationText
from graft.training.compress.quantize import MADE, Quantization
from graft.training.compress.share import outside_form
from graft.training.model.loading import load_base
from graft.training.rootstock.corpus.mixture import calibration_documents
from tests.cases.harness.bases import WEIGHTS, change_config, change_weights, make_base, save_by_transformers
from tests.cases.harness.command import CommandCase, Commands

TEXT = CalibrationText.of(calibration_documents(40))
HELD = ("llama", "mistral", "qwen3", "olmo2", "pythia", "smollm")
NO_DECODERS = ("bert", "roberta", "albert", "electra", "distilbert", "t5", "bart")
IDS = torch.arange(260, 324)[None]
DOWN = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def family_base(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def base(name: str) -> Path:
        if name not in made:
            made[name] = make_base(name, tmp_path_factory.mktemp("families") / name)
        return made[name]

    return base


def quantize(base: Path, form: ServingForm, output: Path) -> Base:
    text = TEXT if form is ServingForm.INT4 else None
    return Quantization(base=Base.from_folder(base), form=form, output=output, text=text, num_tokens=1024).execute()


def log_probabilities(model: torch.nn.Module) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = model(IDS).logits
    return logits.float().log_softmax(-1)[0, :-1].gather(1, IDS[0, 1:, None])[:, 0]


def spoil(tensor: str, value: float) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        make_base("llama", folder / "base")
        change_weights(folder / "base", lambda tensors: tensors[tensor].view(-1)[5:6].fill_(value))

    return prepare


def nothing_made(folder: Path) -> None:
    assert [path.name for path in folder.iterdir()] == ["base"]


def refused(name: str, *says: str, form: str = "int8") -> CommandCase:
    return CommandCase(
        id=f"T8 T13 {form} of {name}",
        argv=["quantize", "{folder}/base", "--form", form, "--output", "{folder}/out"],
        prepare=lambda folder: make_base(name, folder / "base"),
        says=says,
        then=nothing_made,
    )


def broken(form: str, tensor: str, value: float, said: str) -> CommandCase:
    return CommandCase(
        id=f"T9 {form} of a weight that is {value:g}",
        argv=["quantize", "{folder}/base", "--form", form, "--output", "{folder}/out"],
        prepare=spoil(tensor, value),
        says=[f"{WEIGHTS}:{tensor}", said, "take an earlier checkpoint"],
        then=nothing_made,
        seconds=20,
    )


CASES = [
    refused("mixtral", "86% of the weights", "mlp.experts.gate_up_proj", form="nf4"),
    refused("gpt2", "100% of the weights", "attn.c_attn", form="llm-int8"),
    refused("xlnet", "rel_attn", "keep this base plain", form="nf4"),
    *(refused(name, "only such bases are served") for name in NO_DECODERS),
    CommandCase(
        id="C6 a GPT-2 is served",
        argv=[
            "serve",
            "--base",
            "{folder}/base",
            "--data-dir",
            "{folder}/data",
            "--grpc-port",
            "0",
            "--http-port",
            "0",
        ],
        prepare=lambda folder: make_base("gpt2", folder / "base"),
        says=["GPT2LMHeadModel cannot be held as nf4; it can be as bf16, fp32", "--num-slots 0"],
        silent=["Engine core", "Process"],
        seconds=180,
    ),
    broken("nf4", DOWN, math.nan, "1 numbers that are NaN or infinite"),
    broken("llm-int8", "model.norm.weight", math.inf, "1 numbers that are NaN or infinite"),
    broken("int8", "model.embed_tokens.weight", -3e38, "above 65504 in magnitude"),
    broken("int8", DOWN, 3e38, "above 65504 in magnitude"),
]


def two_models(**values: object) -> Callable[[Path], None]:
    return lambda folder: change_config(make_base("llama", folder / "base"), **values)


CASES += [
    CommandCase(
        id=f"T8 a config.json whose {key} is {value}",
        argv=["quantize", "{folder}/base", "--form", "int8", "--output", "{folder}/out"],
        prepare=two_models(**{key: value}),
        says=[said, str(value)],
        then=nothing_made,
    )
    for key, value, said in (
        ("model_type", "foo", "makes no model"),
        ("hidden_size", "wide", "makes no model"),
        ("intermediate_size", 320, "[320, 128] by config.json"),
    )
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_commands(case: CommandCase, commands: Commands) -> None:
    commands.check(case)


def test_t9_int4_of_a_weight_that_is_nan(commands: Commands) -> None:
    (commands.folder / "text.txt").write_text("a text " * 600)
    case = broken("int4", DOWN, math.nan, "NaN or infinite")
    argv = [*case.argv, "--calibration", "{folder}/text.txt"]
    commands.check(CommandCase(id=case.id, argv=argv, prepare=case.prepare, says=case.says, seconds=20))


def test_t9_numbers_that_overflow_on_the_way_are_no_endless_loop(tmp_path: Path) -> None:
    """Each weight is finite, what is computed with them is not."""
    base = make_base("llama", tmp_path / "base")

    def enlarge(tensors: dict[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            tensor.fill_(6e4) if "mlp" in name or "norm" in name else None

    change_weights(base, enlarge)
    with pytest.raises(ValueError, match=r"into model\.layers\.\d\.\S+ on the calibration text is not finite"):
        quantize(base, ServingForm.INT4, tmp_path / "out")


@pytest.mark.parametrize("form", MADE)
@pytest.mark.parametrize("name", HELD)
def test_t8_every_weight_is_in_the_form_or_named_and_unchanged(
    name: str, form: ServingForm, family_base: Callable[[str], Path], tmp_path: Path
) -> None:
    """And what transformers then computes is what the form's own arithmetic allows."""
    folder = family_base(name)
    made = quantize(folder, form, tmp_path / "out")
    before, after = load_file(folder / WEIGHTS), load_file(made.path / WEIGHTS)
    kept = {key for key in before if key in after and after[key].is_floating_point()}
    assert all(torch.equal(before[key], after[key]) for key in kept)
    in_form = before.keys() - kept
    assert in_form == {key for key in before if ".layers." in key and before[key].dim() == 2}
    assert all(f"{key}_packed" in after or not after[key].is_floating_point() for key in in_form)
    shares = outside_form(folder, made.path)
    total = sum(tensor.numel() for tensor in before.values())
    assert sum(shares.values()) == pytest.approx(sum(before[key].numel() for key in kept) / total)
    assert shares.keys() == {"norms and biases", *(key for key in kept if before[key].dim() > 1)}
    plain, found = log_probabilities(load_base(folder, ServingForm.FP32)), log_probabilities(load_base(made.path, form))
    bound = 0.1 if form in (ServingForm.NF4, ServingForm.INT4) else 0.02
    assert float((found - plain).abs().mean()) < bound * float(plain.std() + 1)


@pytest.mark.parametrize("form", [ServingForm.NF4, ServingForm.LLM_INT8])
@pytest.mark.parametrize("name", HELD)
def test_t8_bitsandbytes_forms_are_what_transformers_itself_makes(
    name: str, form: ServingForm, family_base: Callable[[str], Path], tmp_path: Path
) -> None:
    made = quantize(family_base(name), form, tmp_path / "out")
    if form is ServingForm.NF4:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    else:
        config = BitsAndBytesConfig(load_in_8bit=True)
    expected = AutoModelForCausalLM.from_pretrained(
        family_base(name), dtype=torch.bfloat16, quantization_config=config, local_files_only=True
    )
    torch.testing.assert_close(
        log_probabilities(load_base(made.path, form)), log_probabilities(expected), rtol=0, atol=0
    )


def test_t8_the_summary_names_what_stayed_with_its_share(commands: Commands) -> None:
    case = CommandCase(
        id="T8 summary",
        argv=["quantize", "{folder}/base", "--form", "int8", "--output", "{folder}/out"],
        prepare=lambda folder: make_base("llama", folder / "base"),
        code=0,
        # 2 tables of 384 by 128 beside 2 layers of 4 · 128² and 3 · 128 · 256, and 5 norms of 128.
        says=[
            "of the weights stay in bfloat16: ",
            "model.embed_tokens.weight ",
            "lm_head.weight ",
            "norms and biases 0.",
        ],
        then=lambda folder: "stay in bfloat16" in (folder / "out" / "README.md").read_text() or pytest.fail("card"),
    )
    commands.check(case)


@pytest.mark.parametrize("form", MADE)
def test_t10_a_head_of_its_own_is_kept_whatever_the_configuration_says(form: ServingForm, tmp_path: Path) -> None:
    base = make_base("llama", tmp_path / "base")
    change_config(base, tie_word_embeddings=True)
    made = quantize(base, form, tmp_path / "out")
    assert torch.equal(load_file(base / WEIGHTS)["lm_head.weight"], load_file(made.path / WEIGHTS)["lm_head.weight"])
    assert json.loads((made.path / "config.json").read_text())["tie_word_embeddings"] is False
    plain, found = load_base(base, ServingForm.BF16), load_base(made.path, form)
    assert torch.equal(plain.get_output_embeddings().weight, found.get_output_embeddings().weight)


@pytest.mark.parametrize("form", MADE)
def test_t10_a_tied_head_stays_tied(form: ServingForm, tmp_path: Path) -> None:
    base = make_base("smollm", tmp_path / "base")
    made = quantize(base, form, tmp_path / "out")
    assert json.loads((made.path / "config.json").read_text())["tie_word_embeddings"] is True
    model = load_base(made.path, form)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize(
    "options",
    [
        {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
        {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_quant_storage": torch.bfloat16},
        {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "llm_int8_skip_modules": ["lm_head", "down_proj"]},
        {"load_in_8bit": True},
    ],
)
@pytest.mark.parametrize("name", ["llama", "pythia"])
def test_s6_what_transformers_saved_tells_its_layers(
    name: str, options: dict[str, object], family_base: Callable[[str], Path], tmp_path: Path
) -> None:
    """Adapters are checked against them."""
    origin = Base.from_folder(family_base(name))
    found = Base.from_folder(save_by_transformers(origin.path, tmp_path / "saved", **options))
    assert dict(found.modules) == dict(origin.modules)
    assert found.num_parameters == origin.num_parameters
    assert found.form is (ServingForm.LLM_INT8 if "load_in_8bit" in options else ServingForm.NF4)


@pytest.mark.parametrize("form", MADE)
def test_s6_a_folder_without_our_record_tells_the_same(
    form: ServingForm, family_base: Callable[[str], Path], tmp_path: Path
) -> None:
    made = quantize(family_base("llama"), form, tmp_path / "out")
    (made.path / FILE_NAME).unlink()
    found = Base.from_folder(made.path)
    assert (dict(found.modules), found.num_parameters) == (dict(made.modules), made.num_parameters)


def test_s6_a_shape_that_cannot_be_read_is_named(family_base: Callable[[str], Path], tmp_path: Path) -> None:
    made = quantize(family_base("llama"), ServingForm.NF4, tmp_path / "out")
    (made.path / FILE_NAME).unlink()
    state = "model.layers.0.self_attn.q_proj.weight.quant_state.bitsandbytes__nf4"
    change_weights(made.path, lambda tensors: tensors[state].fill_(ord("x")))
    with pytest.raises(InvalidBase, match="bitsandbytes__nf4: holds no layer's shape; save the quantized model again"):
        Base.from_folder(made.path)


def test_t8_weights_that_lie_there_twice_are_taken_once(tmp_path: Path) -> None:
    """As in folders that hold `consolidated.safetensors`, the same weights in another program's names."""
    base = make_base("llama", tmp_path / "base")
    alone = quantize(base, ServingForm.INT8, tmp_path / "alone")
    tensors = {f"other.{name}": tensor for name, tensor in load_file(base / WEIGHTS).items()}
    save_file(tensors, base / "consolidated.safetensors", metadata={"format": "pt"})
    made = quantize(base, ServingForm.INT8, tmp_path / "out")
    assert load_file(made.path / WEIGHTS).keys() == load_file(alone.path / WEIGHTS).keys()
    assert (dict(made.modules), made.num_parameters) == (dict(alone.modules), alone.num_parameters)


@pytest.mark.parametrize("form", MADE)
def test_t8_a_base_in_several_files(form: ServingForm, tmp_path: Path) -> None:
    base = make_base("llama", tmp_path / "base")
    whole = quantize(base, form, tmp_path / "whole")
    load_base(base, ServingForm.BF16).save_pretrained(tmp_path / "parts", max_shard_size="200KB")
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "parts")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 2
    made = quantize(tmp_path / "parts", form, tmp_path / "out")
    one, other = load_file(whole.path / WEIGHTS), load_file(made.path / WEIGHTS)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
