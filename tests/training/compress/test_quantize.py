"""Making a base's folder in another form: what the numbers are, whose identity it has, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from graft.adapters.base.base import Base
from graft.adapters.base.quantized import FILE_NAME, QuantizedRecord
from graft.adapters.folder.record import TrainedRecord
from graft.adapters.form import ServingForm
from graft.training.compress import quantize as quantize_module
from graft.training.compress.calibration import CalibrationText
from graft.training.compress.gptq import gptq
from graft.training.compress.quantize import MADE, Quantization
from graft.training.compress.rounding import IntegerWeight, round_to_nearest
from graft.training.errors import ConfigurationError, DataError
from graft.training.finetune.job import Finetune
from graft.training.finetune.settings import FinetuneSettings
from graft.training.job.export import write_base
from graft.training.model.loading import load_base
from graft.training.rootstock.corpus.demo import demo_rows
from graft.training.rootstock.corpus.mixture import calibration_documents
from graft.training.rootstock.recipe import llama_config

TEXT = CalibrationText.of(calibration_documents(40))
QUERY = "model.layers.0.self_attn.q_proj"


def make(base: Path, form: ServingForm, output: Path, **options: object) -> Base:
    text = TEXT if form is ServingForm.INT4 else None
    given = {"text": text, "num_tokens": 2048} | options
    return Quantization(base=Base.from_folder(base), form=form, output=output, **given).execute()  # type: ignore[arg-type]


def output_error(weight: Tensor, rounded: IntegerWeight, inputs: Tensor) -> float:
    return float(((weight - rounded.restored()) @ inputs.T).square().mean())


@pytest.mark.parametrize("group_size", [32, 128])
@pytest.mark.parametrize("bits", [3, 4, 8])
def test_gptq_errs_less_than_rounding_to_nearest(bits: int, group_size: int) -> None:
    """On inputs it was not calibrated on; features of trained nets are correlated and of unequal size, as here."""
    torch.manual_seed(0)
    mixing = torch.randn(256, 256) / 16
    inputs = torch.randn(6000, 256) @ mixing * torch.linspace(0.1, 3, 256)
    seen, unseen, weight = inputs[:3000], inputs[3000:], torch.randn(96, 256)
    nearest = round_to_nearest(weight, bits=bits, group_size=group_size)
    calibrated = gptq(weight, seen.T @ seen, bits=bits, group_size=group_size)
    assert output_error(weight, calibrated, unseen) < 0.6 * output_error(weight, nearest, unseen)


def test_gptq_without_correlations_is_rounding_to_nearest() -> None:
    """A diagonal Hessian leaves nothing to make up for (the paper's eq. 2 then moves no other weight)."""
    weight = torch.randn(8, 64, generator=torch.Generator().manual_seed(1))
    found = gptq(weight, torch.eye(64), bits=4, group_size=32)
    again = (weight / found.scales_OG.float().repeat_interleave(32, 1)).round().clamp(-8, 7)
    assert torch.equal(found.codes_OI.float(), again)


def test_gptq_survives_inputs_that_are_never_seen_or_always_the_same() -> None:
    weight = torch.randn(8, 64, generator=torch.Generator().manual_seed(1))
    for hessian in (torch.zeros(64, 64), torch.ones(64, 64)):
        found = gptq(weight, hessian, bits=4, group_size=32)
        assert found.restored().isfinite().all()
        assert float((found.restored() - weight).abs().max()) < 2


def test_rounding_is_within_half_a_step_and_zeros_stay() -> None:
    weight = torch.randn(4, 64, generator=torch.Generator().manual_seed(2))
    weight[1] = 0
    found = round_to_nearest(weight, bits=8)
    assert found.scales_OG.shape == (4, 1) and found.codes_OI.dtype == torch.int8
    assert not found.restored()[1].any()
    assert bool(((found.restored() - weight).abs() <= 0.6 * found.scales_OG.float()).all())


@pytest.mark.parametrize("form", MADE)
def test_a_made_folder_has_its_origins_identity_and_loads_in_its_form(
    form: ServingForm, tiny_base: Path, tmp_path: Path
) -> None:
    origin, made = Base.from_folder(tiny_base), make(tiny_base, form, tmp_path / "made")
    assert (made.form, made.identity, made.modules) == (form, origin.identity, origin.modules)
    assert made.size_bytes < 0.75 * origin.size_bytes
    record = QuantizedRecord.read(tmp_path / "made")
    assert record is not None and (record.calibration is not None) == (form is ServingForm.INT4)
    assert record.tools.keys() >= {"graftserve", "torch"}
    ids = torch.tensor([[300, 301, 302, 303] * 8])
    with torch.inference_mode():
        plain = load_base(tiny_base, ServingForm.FP32)(ids).logits
        quantized = load_base(tmp_path / "made", form)(ids).logits.float()
    bound = 0.2 if form in (ServingForm.NF4, ServingForm.INT4) else 0.02  # a code is a tenth, or a hundredth, off
    assert float((plain - quantized).abs().mean()) < bound * float(plain.std())


@pytest.mark.parametrize(("form", "bits", "groups"), [(ServingForm.INT8, 8, 1), (ServingForm.INT4, 4, 4)])
def test_the_file_holds_the_integers_that_transformers_computes_with(
    form: ServingForm, bits: int, groups: int, tiny_base: Path, tmp_path: Path
) -> None:
    folder = make(tiny_base, form, tmp_path / "made", **({"group_size": 32} if groups > 1 else {})).path
    tensors = load_file(folder / "model.safetensors")
    shape = torch.Size(tensors[f"{QUERY}.weight_shape"].tolist())
    codes = unpack_from_int32(tensors[f"{QUERY}.weight_packed"], bits, shape)
    scales = tensors[f"{QUERY}.weight_scale"]
    assert (scales.dtype, scales.shape) == (torch.bfloat16, (128, groups))
    expected = codes.float() * scales.float().repeat_interleave(shape[1] // groups, dim=1)
    loaded = load_base(folder, form).get_submodule(QUERY).weight
    torch.testing.assert_close(loaded.float(), expected, rtol=2**-7, atol=0)


def test_calibration_fits_the_blocks_better_than_rounding(tiny_base: Path, tmp_path: Path) -> None:
    """The whole model's logits on held-out documents, both in groups of 32."""
    base = load_base(tiny_base, ServingForm.BF16).float()
    nearest = load_base(tiny_base, ServingForm.BF16).float()
    for path, module in nearest.named_modules():
        if path.endswith("_proj"):
            module.weight.data = round_to_nearest(module.weight, bits=4, group_size=32).restored()
    make(tiny_base, ServingForm.INT4, tmp_path / "made", group_size=32, num_tokens=8192)
    calibrated = load_base(tmp_path / "made", ServingForm.INT4).float()
    ids = torch.randint(260, 350, (4, 64), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = base(ids).logits
        errors = [float((model(ids).logits - expected).square().mean()) for model in (calibrated, nearest)]
    assert errors[0] < errors[1]


def test_the_same_text_gives_the_same_bytes(tiny_base: Path, tmp_path: Path) -> None:
    one, two = (make(tiny_base, ServingForm.INT4, tmp_path / name) for name in ("one", "two"))
    assert (one.path / FILE_NAME).read_bytes() == (two.path / FILE_NAME).read_bytes()


@pytest.mark.parametrize("form", MADE)
def test_adapters_can_be_trained_on_what_was_made(form: ServingForm, tiny_base: Path, tmp_path: Path) -> None:
    made = make(tiny_base, form, tmp_path / "made")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in demo_rows("shout", 8, seed=0, held_out=False)))
    settings = FinetuneSettings(max_steps=2, per_device_train_batch_size=4, r=4, max_length=256)
    adapter = Finetune(base=made, data=rows, settings=settings, work=tmp_path / "work").execute()
    record = TrainedRecord.read(adapter)
    assert record is not None
    assert (record.form, record.base.digest) == (form, Base.from_folder(tiny_base).digest)


def test_plain_weights_are_loaded_in_8_bits_and_into_no_packed_form(tiny_base: Path) -> None:
    model = load_base(tiny_base, ServingForm.LLM_INT8)
    assert model.get_submodule(QUERY).weight.dtype is torch.int8
    for form in (ServingForm.INT8, ServingForm.INT4):
        with pytest.raises(ConfigurationError, match=f"graft quantize --form {form}"):
            load_base(tiny_base, form)


def test_a_quantized_folder_is_loaded_in_no_other_form(tiny_base: Path, tmp_path: Path) -> None:
    folder = make(tiny_base, ServingForm.INT8, tmp_path / "made").path
    with pytest.raises(ConfigurationError, match="are int8 already"):
        load_base(folder, ServingForm.BF16)
    with pytest.raises(ConfigurationError, match="is int8 already; quantize the plain base"):
        make(folder, ServingForm.INT4, tmp_path / "more")


@pytest.mark.parametrize(
    ("form", "options", "said"),
    [
        (ServingForm.BF16, {"text": None}, "choose nf4, llm-int8, int8, int4"),
        (ServingForm.INT4, {"text": None}, "add --calibration FILE"),
        (ServingForm.INT8, {"text": TEXT}, "takes no calibration text"),
        (ServingForm.INT4, {"group_size": 48}, "which 48 does not divide"),
        (ServingForm.INT4, {"text": CalibrationText(documents=("a",), digest="")}, "has 2 tokens; at least 256"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    form: ServingForm, options: dict[str, object], said: str, tiny_base: Path, tmp_path: Path
) -> None:
    with pytest.raises((ConfigurationError, DataError), match=said):
        make(tiny_base, form, tmp_path / "out" / "made", **options)
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not (tmp_path / "out" / "made").exists()


def test_a_full_disk_leaves_nothing(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **keywords: object) -> None:
        (tmp_path / ".made" / "model.safetensors").parent.mkdir(exist_ok=True)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(quantize_module, "save_torch_state_dict", full)
    with pytest.raises(OSError, match="No space left"):
        make(tiny_base, ServingForm.INT8, tmp_path / "out" / "made")
    assert not list((tmp_path / "out").iterdir())


def test_an_existing_folder_is_not_overwritten(tiny_base: Path, tmp_path: Path) -> None:
    target = tmp_path / "made"
    shutil.copytree(tiny_base, target)
    with pytest.raises(ConfigurationError, match="exists; remove it"):
        make(tiny_base, ServingForm.INT8, target)


def test_an_output_head_of_its_own_stays_plain(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    config = llama_config(tokenizer, width=128, num_layers=1)
    config.intermediate_size, config.tie_word_embeddings = 320, False
    folder = tmp_path / "untied"
    write_base(LlamaForCausalLM(config).to(torch.bfloat16), tokenizer, folder, card="")
    made = make(folder, ServingForm.INT4, tmp_path / "made")
    assert "lm_head" in made.modules
    assert load_file(made.path / "model.safetensors")["lm_head.weight"].dtype is torch.bfloat16
    assert json.loads((made.path / "config.json").read_text())["quantization_config"]["ignore"] == ["lm_head"]


def test_widths_that_no_kernel_takes_are_refused_before_any_work(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    config = llama_config(tokenizer, width=128, num_layers=1)
    config.intermediate_size = 336
    write_base(LlamaForCausalLM(config).to(torch.bfloat16), tokenizer, tmp_path / "odd", card="")
    with pytest.raises(ConfigurationError, match=r"gate_proj has 336 outputs, which 32 does not divide"):
        make(tmp_path / "odd", ServingForm.INT4, tmp_path / "made")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"x", "use .txt or .jsonl"),
        ("a.txt", b" \n", "holds no text"),
        ("a.txt", b"\xff", "line 1: byte 1 is not UTF-8"),
        ("a.jsonl", b'{"text": "x"}\n{"tex": "y"}\n', 'line 2: must be an object with "text"'),
        ("a.jsonl", b"{", "line 1: broken JSON at column 2"),
    ],
)
def test_a_bad_calibration_file_is_named(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        CalibrationText.from_file(tmp_path / name)


def test_calibration_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo")
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n\n{"text": "two"}\n')
    assert CalibrationText.from_file(tmp_path / "a.txt").documents == ("one\ntwo",)
    assert CalibrationText.from_file(tmp_path / "a.jsonl").documents == ("one", "two")
    digests = {CalibrationText.from_file(tmp_path / name).digest for name in ("a.txt", "a.jsonl")}
    assert len(digests) == 2


def test_settings_choose_the_form_of_plain_weights(tiny_base: Path) -> None:
    base = Base.from_folder(tiny_base)

    def form(**settings: bool) -> ServingForm:
        return Finetune(base=base, data=Path(), settings=FinetuneSettings(**settings), work=Path()).form

    assert form() is ServingForm.NF4
    assert form(load_in_4bit=False) is ServingForm.BF16
    assert form(load_in_8bit=True) is ServingForm.LLM_INT8
    made = Finetune(
        base=dataclasses.replace(base, form=ServingForm.INT4), data=Path(), settings=FinetuneSettings(), work=Path()
    )
    assert made.form is ServingForm.INT4
