"""Making a base's folder with zeros in it: what is changed, what it is called, who takes it, and what is refused."""

from __future__ import annotations

import json
import math
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from graft.adapters.base.base import Base
from graft.adapters.base.pruned import FILE_NAME, PrunedRecord
from graft.adapters.errors import InvalidBase
from graft.adapters.folder.record import TrainedRecord
from graft.adapters.form import ServingForm
from graft.cli.main import main
from graft.training.compress.calibration import CalibrationText
from graft.training.compress.prune import prune as prune_module
from graft.training.compress.prune.prune import Method, Pruning
from graft.training.compress.prune.sparsity import Sparsity
from graft.training.compress.prune.told import write
from graft.training.compress.quantize import MADE, Quantization
from graft.training.errors import ConfigurationError, DataError
from graft.training.finetune.job import Finetune
from graft.training.finetune.settings import FinetuneSettings
from graft.training.model.loading import load_base, load_tokenizer
from graft.training.rootstock.corpus.demo import demo_rows
from graft.training.rootstock.corpus.mixture import calibration_documents
from tests.cases.harness.bases import WEIGHTS, change_weights, make_base
from tests.training.compress.prune.reference import slow_sparsegpt
from tests.training.report.pages import Page

TEXT = CalibrationText.of(calibration_documents(40))
HALF, TWO_OF_FOUR = Sparsity.anywhere(0.5), Sparsity.pattern("2:4")
LAYERS = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]


def make(base: Path, output: Path, method: Method = Method.SPARSEGPT, **options: object) -> Base:
    text = None if method is Method.MAGNITUDE else TEXT
    given = {"text": text, "num_tokens": 2048, "sparsity": HALF} | options
    return Pruning(base=Base.from_folder(base), method=method, output=output, **given).execute()  # type: ignore[arg-type]


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / WEIGHTS)


@pytest.fixture(scope="module")
def pruned(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By SparseGPT to one half."""
    return make(tiny_base, tmp_path_factory.mktemp("pruned") / "made").path


def test_a_page_beside_the_folder_tells_each_layer(
    tiny_base: Path, pruned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(Base.from_folder(pruned), Base.from_folder(tiny_base))
    assert path == pruned.with_name("made.html")
    page, record = Page.read(path), PrunedRecord.read(pruned)
    assert record is not None
    for name, layer in record.layers.items():
        assert name in page.inside("td") and f"{layer.error or 0:.3%}" in page.inside("td")
    bars = {name: page.inside("td")[page.inside("td").index(name) + 3].count("█") for name in record.layers}
    assert max(bars, key=lambda name: bars[name]) == max(record.layers, key=lambda name: record.layers[name].error or 0)
    assert f"graft serve --base {pruned}" in page.text and record.base.digest in page.text
    (learn,) = (line for line in "\n".join(page.inside("pre")).splitlines() if "finetune" in line)
    assert main(shlex.split(learn)[1:]) == 2 and "FILE" in capsys.readouterr().err  # all but its rows is as it must be
    with pytest.raises(ConfigurationError, match=r"made\.html, which would tell about it, is there"):
        make(tiny_base, pruned)


@pytest.mark.parametrize("sparsity", [HALF, TWO_OF_FOUR], ids=str)
@pytest.mark.parametrize("method", Method)
def test_the_layers_of_the_blocks_get_zeros_and_nothing_else_changes(
    method: Method, sparsity: Sparsity, tiny_base: Path, tmp_path: Path
) -> None:
    before, after = weights(tiny_base), weights(make(tiny_base, tmp_path / "made", method, sparsity=sparsity).path)
    assert before.keys() == after.keys()
    inside = {f"model.layers.0.{name}.weight" for name in LAYERS}
    for name, one in after.items():
        assert one.dtype == before[name].dtype
        if name not in inside:
            assert torch.equal(one, before[name])
            continue
        assert float((one == 0).float().mean()) == pytest.approx(0.5, abs=2e-3)
        if sparsity.group is not None:
            assert bool(((one.reshape(-1, 4) != 0).sum(1) <= 2).all())
        if method is not Method.SPARSEGPT:
            assert torch.equal(one[one != 0], before[name][one != 0])


def test_what_is_made_is_a_base_of_its_own_that_says_where_it_comes_from(tiny_base: Path, pruned: Path) -> None:
    origin, made = Base.from_folder(tiny_base), Base.from_folder(pruned)
    assert (made.form, made.architecture, made.modules) == (None, origin.architecture, origin.modules)
    assert made.identity.weights_digest != origin.identity.weights_digest
    assert made.identity.tokenizer_digest == origin.identity.tokenizer_digest
    assert made.identity.chat_template_digest == origin.identity.chat_template_digest
    assert made.identity.config_digest == origin.identity.config_digest
    record = PrunedRecord.read(pruned)
    assert record is not None and record.calibration is not None
    assert (record.base, record.method, record.sparsity, record.pattern) == (origin.identity, "sparsegpt", 0.5, None)
    assert record.weights_digest == made.identity.weights_digest
    assert (record.calibration.data_digest, record.calibration.num_tokens) == (TEXT.digest, 2048)
    assert record.layers.keys() == {f"model.layers.0.{name}" for name in LAYERS}
    assert all(
        0.49 < one.zeros < 0.51 and one.error is not None and 0 < one.error < 0.3 for one in record.layers.values()
    )
    assert origin.digest in (pruned / "README.md").read_text()


def test_each_layer_is_fitted_to_what_the_pruned_blocks_before_it_give(tmp_path: Path) -> None:
    """The second block's first layer, from inputs that Hugging Face's model of the pruned first block gives."""
    origin = make_base("llama", tmp_path / "origin")
    change_weights(origin, lambda tensors: tensors.update({name: one.float() for name, one in tensors.items()}))
    made = make(origin, tmp_path / "made")
    half_made = load_base(made.path, ServingForm.FP32)
    before, after = weights(origin), weights(made.path)
    query = "model.layers.1.self_attn.q_proj"
    seen: list[Tensor] = []
    half_made.get_submodule(query).register_forward_pre_hook(lambda layer, args: seen.append(args[0].flatten(0, 1)))
    context = half_made.config.max_position_embeddings
    with torch.no_grad():
        for rows in TEXT.batches(load_tokenizer(origin), num_tokens=2048, context=context):
            half_made(rows)
    inputs = torch.cat(seen).double()
    expected = slow_sparsegpt(before[f"{query}.weight"], inputs.T @ inputs, 0.5)
    errors = [
        float(((before[f"{query}.weight"].double() - one.double()) @ inputs.T).square().sum())
        for one in (after[f"{query}.weight"], expected)
    ]
    assert errors[0] == pytest.approx(errors[1], rel=1e-3)


def test_no_more_than_one_block_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin, most, there = make_base("llama", tmp_path / "origin"), [], prune_module.change_blocks

    def watched(decoder, layers, batches, change, **options):  # type: ignore[no-untyped-def]
        def looking(path, layer, hessian):  # type: ignore[no-untyped-def]
            most.append(sum(any(not one.is_meta for one in block.parameters()) for block in decoder.blocks))
            change(path, layer, hessian)

        there(decoder, layers, batches, looking, **options)
        most.append(sum(any(not one.is_meta for one in block.parameters()) for block in decoder.blocks))

    monkeypatch.setattr(prune_module, "change_blocks", watched)
    make(origin, tmp_path / "made")
    assert set(most[:-1]) == {1} and most[-1] == 0


def test_the_same_text_gives_the_same_bytes(pruned: Path, tiny_base: Path, tmp_path: Path) -> None:
    again = make(tiny_base, tmp_path / "made")
    for name in (WEIGHTS, FILE_NAME):
        assert (again.path / name).read_bytes() == (pruned / name).read_bytes()


@pytest.mark.parametrize("form", MADE)
def test_quantizing_keeps_the_zeros(form: ServingForm, pruned: Path, tmp_path: Path) -> None:
    """NF4, LLM.int8 and int8 have a code for zero; GPTQ is told to leave them."""
    base = Base.from_folder(pruned)
    text = TEXT if form is ServingForm.INT4 else None
    made = Quantization(base=base, form=form, output=tmp_path / "made", text=text, num_tokens=2048).execute()
    assert made.identity == base.identity
    assert PrunedRecord.read(made.path) == PrunedRecord.read(pruned)
    layer = load_base(made.path, form).get_submodule("model.layers.0.mlp.down_proj")
    if form in (ServingForm.NF4, ServingForm.LLM_INT8):
        with torch.no_grad():
            found = layer(torch.eye(layer.in_features, dtype=torch.bfloat16)).T
    else:
        found = layer.weight
    zero = weights(pruned)["model.layers.0.mlp.down_proj.weight"] == 0
    assert not found[zero].any()
    assert float((found == 0).float().mean()) < 0.75


def test_int4_moves_zeros_of_a_base_that_was_changed_since(pruned: Path, tmp_path: Path) -> None:
    """The record vouches for the weights that it was written for."""
    other = tmp_path / "other"
    shutil.copytree(pruned, other)
    change_weights(other, lambda tensors: tensors["model.norm.weight"].mul_(2))
    base = Base.from_folder(other)
    made = Quantization(base=base, form=ServingForm.INT4, output=tmp_path / "made", text=TEXT, num_tokens=2048)
    assert not made._is_pruned


def test_adapters_are_trained_on_it(pruned: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in demo_rows("shout", 8, seed=0, held_out=False)))
    settings = FinetuneSettings(max_steps=1, per_device_train_batch_size=4, r=4, max_length=256)
    base = Base.from_folder(pruned)
    adapter = Finetune(base=base, data=rows, settings=settings, work=tmp_path / "work").execute()
    record = TrainedRecord.read(adapter)
    assert record is not None and record.base == base.identity


def test_other_architectures_and_types_are_pruned(tmp_path: Path) -> None:
    """Pythia's layers have other names, biases and masks beside them; its weights lie in float16."""
    origin = make_base("pythia", tmp_path / "origin")
    change_weights(origin, lambda tensors: tensors.update({name: one.half() for name, one in tensors.items()}))
    made = make(origin, tmp_path / "made")
    before, after = weights(origin), weights(made.path)
    for name, one in after.items():
        assert one.dtype is torch.float16
        is_layer = name.endswith("weight") and one.ndim == 2 and ".layers." in name
        assert torch.equal(one, before[name]) != is_layer, name
        assert not is_layer or 0.45 < float((one == 0).float().mean()) < 0.55
    ids = torch.arange(260, 300)[None]
    assert load_base(made.path, ServingForm.FP32)(ids).logits.isfinite().all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"text": None}, "sparsegpt is calibrated: add --data FILE"),
        ({"method": Method.WANDA, "text": None}, "wanda is calibrated: add --data FILE"),
        ({"method": Method.MAGNITUDE, "text": TEXT}, "magnitude takes no calibration text"),
        ({"text": CalibrationText(documents=("a",), digest="")}, "has 2 tokens; at least 256"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    options: dict[str, object], said: str, tiny_base: Path, tmp_path: Path
) -> None:
    with pytest.raises((ConfigurationError, DataError), match=said) as caught:
        make(tiny_base, tmp_path / "out" / "made", **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not (tmp_path / "out" / "made").exists()


def test_all_mistakes_are_said_at_once(tiny_base: Path, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    with pytest.raises(ConfigurationError, match=r"made exists; .* add --data FILE"):
        make(tiny_base, tmp_path / "made", text=None)


def test_a_width_that_the_pattern_does_not_divide_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    """320 inputs of the MLP's last layer."""
    with pytest.raises(ConfigurationError, match=r"--pattern 64:128: .*down_proj has 320 inputs, which 128"):
        make(tiny_base, tmp_path / "made", sparsity=Sparsity.pattern("64:128"))
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_finite_are_named(tmp_path: Path) -> None:
    origin = make_base("llama", tmp_path / "origin")
    name = "model.layers.1.mlp.up_proj.weight"
    change_weights(origin, lambda tensors: tensors[name].view(-1)[:1].fill_(math.nan))
    for method in Method:
        with pytest.raises(InvalidBase, match="NaN or infinite") as caught:
            make(origin, tmp_path / "made", method)
        assert [reason.field for reason in caught.value.reasons] == [f"{WEIGHTS}:{name}"]
    assert not (tmp_path / "made").exists()


def test_activations_that_overflow_are_named(tmp_path: Path) -> None:
    origin = make_base("llama", tmp_path / "origin")
    change_weights(origin, lambda tensors: tensors["model.layers.0.input_layernorm.weight"].fill_(1e38))
    with pytest.raises((ConfigurationError, InvalidBase), match=r"not finite|float16"):
        make(origin, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_a_quantized_base_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    base = Quantization(base=Base.from_folder(tiny_base), form=ServingForm.INT8, output=tmp_path / "int8").execute()
    with pytest.raises(ConfigurationError, match="is int8 already; prune the plain base"):
        make(base.path, tmp_path / "made")


def test_a_record_that_is_broken_is_named(pruned: Path, tmp_path: Path) -> None:
    shutil.copytree(pruned, tmp_path / "other")
    body = json.loads((pruned / FILE_NAME).read_text()) | {"sparsity": 2}
    (tmp_path / "other" / FILE_NAME).write_text(json.dumps(body))
    with pytest.raises(InvalidBase, match="sparsity"):
        PrunedRecord.read(tmp_path / "other")
