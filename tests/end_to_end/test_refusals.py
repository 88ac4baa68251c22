"""F7: broken or foreign adapters are refused before the engine hears of them, with all reasons."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from graft.client import Client, InvalidArgument, operation
from graft.client.upload import upload_requests
from graft.v1 import adapter_pb2
from tests.server.engine.making import write_adapter

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def edit_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **changes}))


def edit_tensors(folder: Path, edit: Callable[[str, np.ndarray], tuple[str, np.ndarray]]) -> None:
    tensors = load_file(folder / WEIGHTS)
    save_file(dict(edit(name, tensor) for name, tensor in tensors.items()), folder / WEIGHTS)


def truncate(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


def huge_header(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", 100 * 2**20) + b"{" + b" " * 1000)


def not_a_number(folder: Path) -> None:
    edit_tensors(folder, lambda name, tensor: (name, np.full_like(tensor, np.nan)))


def rank_above_limit(folder: Path) -> None:
    def wider(name: str, tensor: np.ndarray) -> tuple[str, np.ndarray]:
        copies = (64, 1) if "lora_A" in name else (1, 64)
        return name, np.tile(tensor, copies)

    edit_tensors(folder, wider)
    edit_config(folder, r=512)


def rank_not_as_said(folder: Path) -> None:
    edit_config(folder, r=4)


def no_module_matched(folder: Path) -> None:
    edit_tensors(folder, lambda name, tensor: (name.replace("model.layers", "transformer.h"), tensor))


def other_shape(folder: Path) -> None:
    edit_tensors(folder, lambda name, tensor: (name, tensor[:, :-1] if "lora_A" in name else tensor))


def nothing_changed(folder: Path) -> None:
    edit_tensors(folder, lambda name, tensor: (name, np.zeros_like(tensor) if "lora_B" in name else tensor))


def weight_decomposed(folder: Path) -> None:
    edit_config(folder, use_dora=True)


def other_base(folder: Path) -> None:
    digest = "sha256:" + "0" * 64
    base = {"name": "another", "digest": digest, "weights_digest": digest, "tokenizer_digest": digest}
    lineage = {"job": None, "data_digest": None, "code_version": None, "seed": 0}
    record = {"base": {**base, "chat_template_digest": None}, "form": "nf4", "lineage": lineage}
    (folder / "graft.json").write_text(json.dumps(record))


def two_faults(folder: Path) -> None:
    edit_config(folder, use_dora=True, bias="all")


FAULTS: list[tuple[Callable[[Path], None], str]] = [
    (truncate, "cut"),
    (huge_header, "header"),
    (not_a_number, "finite"),
    (rank_above_limit, "rank"),
    (rank_not_as_said, "rank"),
    (no_module_matched, "module"),
    (other_shape, "shape"),
    (nothing_changed, "allow_noop"),
    (weight_decomposed, "DoRA"),
    (other_base, "base"),
    (two_faults, "bias"),
]


@pytest.fixture(scope="module")
def good(layers: dict[str, tuple[int, int]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(tmp_path_factory.mktemp("good") / "adapter", layers, rank=8, seed=7)


@pytest.fixture(autouse=True)
def engine_is_not_touched(client: Client) -> Iterator[None]:
    before = client.info()
    yield
    after = client.info()
    assert (after.engine_pid, after.engine_restarts) == (before.engine_pid, before.engine_restarts)
    assert client.generate("12+35? ", max_tokens=4).answerer.adapter == ""


@pytest.mark.parametrize(("break_it", "reason"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
def test_refused_with_the_reason(
    client: Client, good: Path, tmp_path: Path, break_it: Callable[[Path], None], reason: str
) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(good, folder)
    break_it(folder)
    with pytest.raises(InvalidArgument) as refusal:
        client.push_adapter(folder, name="broken", alias="stable")
    said = str(refusal.value) + " ".join(str(each) for each in refusal.value.violations)
    assert reason.lower() in said.lower()
    assert "broken" not in {each.adapter for each in client.adapters()}


def test_all_reasons_at_once(client: Client, good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(good, folder)
    edit_config(folder, use_dora=True, bias="all", modules_to_save=["lm_head"])
    with pytest.raises(InvalidArgument) as refusal:
        client.push_adapter(folder, name="broken")
    assert len(refusal.value.violations) >= 3


def test_bit_flips_on_the_way_are_refused(client: Client, good: Path, tmp_path: Path) -> None:
    """40 over the wire; tests/adapters flips 500 at the file level."""
    random = np.random.default_rng(0)
    folder = tmp_path / "flipped"
    for _ in range(40):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(good, folder)
        # The digests are taken here, of the good file; its bytes are read when they are sent.
        messages = upload_requests(folder, name="flipped", allow_noop=False, allow_other_quantization=False)
        data = bytearray((folder / WEIGHTS).read_bytes())
        data[random.integers(len(data))] ^= 1 << random.integers(8)
        (folder / WEIGHTS).write_bytes(data)
        with pytest.raises(InvalidArgument):
            client._upload(operation.UPLOAD_VERSION, messages, adapter_pb2.UploadVersionResponse, 60.0)
    assert "flipped" not in {each.adapter for each in client.adapters()}
