"""A quantized folder keeps its origin's identity, and only while it is what was recorded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from graft.adapters.base import files as base_files
from graft.adapters.base.base import Base, shipped_bases
from graft.adapters.base.form_of_folder import folder_form
from graft.adapters.base.quantized import FILE_NAME, Calibration, QuantizedRecord
from graft.adapters.catalog.catalog import Catalog
from graft.adapters.errors import InvalidBase
from graft.adapters.form import ServingForm

ORIGIN = shipped_bases()["rootstock-5m"]
PACKED = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "config_groups": {"group_0": {"weights": {"num_bits": 4}, "input_activations": None}},
}


@pytest.fixture
def quantized(tmp_path: Path) -> Path:
    """As `graft quantize` leaves it; the packed numbers themselves do not matter here."""
    folder = tmp_path / "rootstock-int4"
    shutil.copytree(ORIGIN, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": PACKED}))
    packed = {"model.layers.0.mlp.up_proj.weight_packed": np.zeros((8, 2), np.int32)}
    save_file(packed, folder / "model.safetensors")
    origin = Base.from_folder(ORIGIN)
    QuantizedRecord(
        base=origin.identity,
        form=ServingForm.INT4,
        modules=origin.modules,
        num_parameters=origin.num_parameters,
        files=base_files.recorded_hashes(folder),
        calibration=Calibration(data_digest="sha256:" + "0" * 64, num_tokens=7),
        tools={"torch": "2"},
    ).write(folder)
    return folder


def test_it_is_its_origin_in_another_form(quantized: Path) -> None:
    origin, base = Base.from_folder(ORIGIN), Base.from_folder(quantized)
    assert (base.form, origin.form) == (ServingForm.INT4, None)
    assert base.identity == origin.identity
    assert (base.modules, base.num_parameters) == (origin.modules, origin.num_parameters)
    assert base.size_bytes < origin.size_bytes
    assert base.path == quantized


def test_a_record_reads_as_it_was_written(quantized: Path) -> None:
    record = QuantizedRecord.read(quantized)
    assert record is not None
    before = (quantized / FILE_NAME).read_text()
    record.write(quantized)
    assert (quantized / FILE_NAME).read_text() == before
    assert QuantizedRecord.read(ORIGIN) is None


def _flip_a_weight(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _record(folder: Path, change: Callable[[dict], object]) -> None:
    body = json.loads((folder / FILE_NAME).read_text())
    change(body)
    (folder / FILE_NAME).write_text(json.dumps(body))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_flip_a_weight, "model.safetensors: was changed"),
        (lambda f: shutil.copy(f / "model.safetensors", f / "more.safetensors"), "more.safetensors: is not recorded"),
        (lambda f: (f / "config.json").write_text((f / "config.json").read_text() + " "), "config.json: was changed"),
        (lambda f: (f / "chat_template.jinja").write_text("x"), "chat_template_digest"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer_digest"),
        (lambda f: (f / FILE_NAME).write_text("{"), "not valid JSON"),
        (lambda f: _record(f, lambda b: b.update(form="int8")), "says int8, but config.json says int4"),
        (lambda f: _record(f, lambda b: b.update(form="int3")), "form: 'int3' should be 'nf4'"),
        (lambda f: _record(f, lambda b: b["files"].update(gone="0" * 64)), "gone: is missing"),
        (lambda f: _record(f, lambda b: b["base"].update(weights_digest="sha256:" + "1" * 64)), "digest of its parts"),
        (lambda f: _record(f, lambda b: b.update(modules={"a": [1]})), "must map every linear layer"),
        (lambda f: _record(f, lambda b: b.update(modules={"a": [1, "2"]})), "must map every linear layer"),
        (lambda f: _record(f, lambda b: b.update(num_parameters="7")), "num_parameters: '7' should be a valid integer"),
        (lambda f: _record(f, lambda b: b.update(surprise=1)), "surprise: is an unknown key"),
        (lambda f: _record(f, lambda b: b.pop("tools")), "tools: is missing"),
        (lambda f: _record(f, lambda b: b["base"].pop("digest")), "base.digest: is missing"),
        (lambda f: _record(f, lambda b: b.update(base=None)), "base: None should be an object"),
        (
            lambda f: _record(f, lambda b: b["calibration"].update(num_tokens=0)),
            "calibration.num_tokens: 0 should be greater than 0",
        ),
    ],
)
def test_a_folder_that_is_not_what_was_recorded_is_refused(
    quantized: Path, spoil: Callable[[Path], object], said: str
) -> None:
    spoil(quantized)
    with pytest.raises(InvalidBase, match="not a usable base") as caught:
        Base.from_folder(quantized)
    assert said in str(caught.value)


def test_hashes_of_big_files_are_kept_but_a_change_is_seen(quantized: Path, tmp_path: Path) -> None:
    assert Base.from_folder(quantized, cache_dir=tmp_path / "hashes").form is ServingForm.INT4
    _flip_a_weight(quantized)
    with pytest.raises(InvalidBase, match="was changed"):
        Base.from_folder(quantized, cache_dir=tmp_path / "hashes")


@pytest.mark.parametrize(
    ("section", "form"),
    [
        (None, None),
        (PACKED, ServingForm.INT4),
        ({**PACKED, "config_groups": {"a": {"weights": {"num_bits": 8}}}}, ServingForm.INT8),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, ServingForm.LLM_INT8),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, ServingForm.NF4),
    ],
)
def test_the_form_is_read_from_the_configuration(section: object, form: ServingForm | None) -> None:
    assert folder_form({"quantization_config": section}) is form


@pytest.mark.parametrize(
    "section",
    [
        "nf4",
        {"quant_method": "fp8"},
        {"quant_method": "bitsandbytes", "bnb_4bit_quant_type": "fp4"},
        {**PACKED, "config_groups": {"a": {"weights": {"num_bits": 4}, "input_activations": {"num_bits": 8}}}},
        {**PACKED, "config_groups": {"a": {"weights": {"num_bits": 4}}, "b": {"weights": {"num_bits": 8}}}},
        {**PACKED, "config_groups": {"a": "b"}},
    ],
)
def test_forms_that_are_not_served_are_refused(section: object) -> None:
    with pytest.raises(InvalidBase, match="none of the forms that are served"):
        folder_form({"quantization_config": section})


def test_a_quantized_folder_does_not_displace_its_registered_origin(quantized: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(ORIGIN, plain)
    catalog = Catalog.open(f"sqlite:///{tmp_path / 'catalog.db'}")
    try:
        for folder, expected in ((quantized, quantized), (plain, plain), (quantized, plain)):
            catalog.register_base(Base.from_folder(folder, "mine"))
            assert [Path(one.path) for one in catalog.bases()] == [expected]
        shutil.rmtree(plain)
        catalog.register_base(Base.from_folder(quantized, "mine"))
        assert [Path(one.path) for one in catalog.bases()] == [quantized]
    finally:
        catalog.close()
