"""A slot image holds what the adapter's files say, as the slots hold it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from graft.adapters.folder.lora_tensors import scaling
from graft.server.engine.lora.slot_image import SlotLayout, is_image, write_image
from graft.server.engine.lora.slot_images import SlotImages
from graft.server.engine.lora.tensor_file import map_tensors
from tests.server.engine.making import write_adapter

MODULES = {"model.layers.0.q_proj": (6, 4), "model.layers.0.k_proj": (2, 4), "model.layers.0.o_proj": (4, 6)}
LAYOUT = SlotLayout(
    {
        "model.layers.0.qkv_proj": [f"model.layers.0.{part}_proj" for part in "qkv"],
        "model.layers.0.o_proj": ["model.layers.0.o_proj"],
    },
    torch.bfloat16,
    max_rank=2,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = write_adapter(tmp_path / "adapter", MODULES, rank=2, seed=1)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 3}))
    return folder


def test_slices_are_cast_scaled_and_transposed(folder: Path, tmp_path: Path) -> None:
    image = tmp_path / "a.slot"
    write_image(folder, image, LAYOUT)
    # safetensors' own reader takes it.
    tensors = load_file(image)
    source = load_file(folder / "adapter_model.safetensors")
    expected = {}
    for part, place in (("q", "qkv_proj.0"), ("k", "qkv_proj.1"), ("o", "o_proj.0")):
        name = f"base_model.model.model.layers.0.{part}_proj"
        expected[f"model.layers.0.{place}.a"] = source[f"{name}.lora_A.weight"].bfloat16()
        expected[f"model.layers.0.{place}.b"] = (source[f"{name}.lora_B.weight"] * 1.5).t().bfloat16()
    assert tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensors[name], tensor)
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in map_tensors(image).items())
    assert is_image(str(image))
    assert not is_image(str(folder))


def test_a_module_without_slots_is_named(folder: Path, tmp_path: Path) -> None:
    layout = SlotLayout({"model.layers.0.o_proj": ["model.layers.0.o_proj"]}, torch.float32, max_rank=2)
    with pytest.raises(ValueError, match=r"no module model\.layers\.0\.\w_proj with adapter slots"):
        write_image(folder, tmp_path / "a.slot", layout)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_a_rank_above_the_slots_is_named(folder: Path, tmp_path: Path) -> None:
    layout = SlotLayout({"model.layers.0.o_proj": ["model.layers.0.o_proj"]}, torch.float32, max_rank=1)
    (tmp_path / "b").mkdir()
    other = write_adapter(tmp_path / "b" / "x", {"model.layers.0.o_proj": (4, 6)}, rank=2, seed=1)
    with pytest.raises(ValueError, match="has rank 2; the slots hold 1"):
        write_image(other, tmp_path / "a.slot", layout)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"lora_alpha": 16}, 2.0),
        ({"lora_alpha": 16, "use_rslora": True}, 16 / 8**0.5),
        ({"lora_alpha": 16, "alpha_pattern": {"k_proj": 4}}, 2.0),
        ({"lora_alpha": 16, "alpha_pattern": {"q_proj": 4}}, 0.5),
        ({"lora_alpha": 16, "alpha_pattern": {"layers.0.q_proj": 8}}, 1.0),
    ],
)
def test_scaling(config: dict[str, object], expected: float) -> None:
    assert scaling(config, "model.layers.0.q_proj", 8) == pytest.approx(expected)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True},
        {"alpha_pattern": {"q_proj": 4}, "rank_pattern": {"k_proj": 3}},
        {"alpha_pattern": {r".*\.layers\.1\..*(q_proj|v_proj)$": 4, "q_.*": 9}, "rank_pattern": {r"[kq]_proj": 3}},
    ],
)
def test_scaling_is_pefts(options: dict[str, object]) -> None:
    """The oracle: peft's own layers."""
    from peft import LoraConfig, get_peft_model

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q_proj, self.k_proj = torch.nn.Linear(4, 6), torch.nn.Linear(4, 2)

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([Block(), Block()])})

    config = LoraConfig(r=2, lora_alpha=5, target_modules=["q_proj", "k_proj"], **options)
    model = get_peft_model(Model(), config)
    for name, module in model.named_modules():
        if name.endswith(("q_proj", "k_proj")):
            rank = module.lora_A["default"].weight.shape[0]
            path = name.removeprefix("base_model.model.")
            assert module.scaling["default"] == pytest.approx(scaling(config.to_dict(), path, rank))


def test_images_are_kept_within_bounds(folder: Path, tmp_path: Path) -> None:
    images = SlotImages(tmp_path / "images", LAYOUT, max_bytes=1)
    made = images.make("sha256:1", folder)
    assert images.make("sha256:1", folder) == made == images.path("sha256:1")
    with images.held("sha256:1"):
        images.make("sha256:2", folder)
        assert made.exists()
    images.make("sha256:2", folder)
    assert not made.exists()
    assert images.make("sha256:1", folder).exists()
    # Another process on the same folder takes nothing away; what a dead one left is gone.
    (tmp_path / "images" / "session-dead").mkdir()
    other = SlotImages(tmp_path / "images", LAYOUT, max_bytes=1)
    assert images.path("sha256:1").exists()
    other.close()
    images.close()
    assert list((tmp_path / "images").iterdir()) == []


def test_preparing_is_a_hint(folder: Path, tmp_path: Path) -> None:
    """What cannot be prepared, or not any more, is no error here: the load will tell."""
    images = SlotImages(tmp_path / "images", LAYOUT, max_bytes=2**20)
    images.prepare("sha256:1", tmp_path / "gone")
    images.prepare("sha256:1", folder)
    images.thread.submit(lambda: None).result()
    assert images.path("sha256:1").exists()
    images.close()
    images.prepare("sha256:2", folder)


def test_a_broken_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.slot"
    path.write_bytes(b"\xff" * 40)
    with pytest.raises(ValueError, match="cannot be read"):
        map_tensors(path)
