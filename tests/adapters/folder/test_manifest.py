"""Adapter files: what is read, and what is refused before anything is mapped (F7)."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from graft.adapters.errors import InvalidAdapter
from graft.adapters.folder.manifest import read_manifest
from graft.adapters.folder.numbers import inspect_numbers
from tests.adapters.making import make_adapter, make_tensors, write_raw_safetensors

TENSORS = "adapter_model.safetensors"


def test_agrees_with_the_safetensors_library(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a")
    manifest = read_manifest(folder)
    data = (folder / TENSORS).read_bytes()
    with safe_open(folder / TENSORS, framework="numpy") as file:
        assert set(manifest.tensors) == set(file.keys())
        for name, info in manifest.tensors.items():
            expected = file.get_tensor(name)
            assert info.shape == expected.shape
            assert data[info.start : info.end] == expected.tobytes()
    assert (manifest.rank, manifest.alpha, manifest.target_modules) == (4, 8.0, ("down_proj", "q_proj"))


def test_other_files_are_ignored_and_never_part_of_the_adapter(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a")
    (folder / "README.md").write_text("# model card")
    (folder / "training_args.json").write_text("{}")
    assert [file.name for file in read_manifest(folder).files] == ["adapter_config.json", TENSORS]


@pytest.mark.parametrize("name", ["adapter_model.bin", "optimizer.pt", "training_args.BIN", "x.pkl"])
def test_what_may_be_a_pickle_is_never_opened(tmp_path: Path, name: str) -> None:
    """Who opened a pipe that nobody writes to would wait for ever."""
    folder = make_adapter(tmp_path / "a")
    os.mkfifo(folder / name)
    assert name not in {file.name for file in read_manifest(folder).files}


def test_an_adapter_that_is_a_pickle_is_refused(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a")
    (folder / TENSORS).rename(folder / "adapter_model.bin")
    with pytest.raises(
        InvalidAdapter, match=r"adapter_model\.bin is not read: it may hold a pickle.*safe_serialization"
    ):
        read_manifest(folder)


def test_links_are_refused(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a")
    secret = tmp_path / "secret"
    (folder / TENSORS).rename(secret)
    (folder / TENSORS).symlink_to(secret)
    with pytest.raises(InvalidAdapter, match="is a link"):
        read_manifest(folder)
    (tmp_path / "b").symlink_to(folder)
    with pytest.raises(InvalidAdapter, match="is not a folder"):
        read_manifest(tmp_path / "b")
    (folder / TENSORS).unlink()
    os.mkfifo(folder / TENSORS)
    with pytest.raises(InvalidAdapter, match="no regular file"):
        read_manifest(folder)


def test_all_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidAdapter) as caught:
        read_manifest(tmp_path)
    assert [reason.field for reason in caught.value.reasons] == ["adapter_config.json", TENSORS]


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a")
    data = (folder / TENSORS).read_bytes()
    for length in [*range(64), *range(64, len(data), 37), len(data) - 1]:
        (folder / TENSORS).write_bytes(data[:length])
        with pytest.raises(InvalidAdapter):
            read_manifest(folder)
    (folder / TENSORS).write_bytes(data + b"\0")
    with pytest.raises(InvalidAdapter, match="its tensors end at byte"):
        read_manifest(folder)


def test_a_header_of_100_megabytes_is_refused_unread(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a")
    size_bytes = 100_000_000
    with (folder / TENSORS).open("wb") as file:
        file.write(struct.pack("<Q", size_bytes))
        file.truncate(size_bytes + 8)
    with pytest.raises(InvalidAdapter, match="100000000 bytes; the limit is 16777216"):
        read_manifest(folder)


def test_a_file_above_the_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidAdapter, match="the limit is 100"):
        read_manifest(make_adapter(tmp_path / "a"), max_file_bytes=100)


def _entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (b"[]", "does not begin with"),
        (b" {}", "does not begin with"),
        (b"{" * 100_000, "not valid JSON"),
        (b'{"a":' + b"[" * 100_000, "not valid JSON"),
        (b'{"\xff": 1}', "not valid JSON"),
        (b'{"a": NaN}', "not valid JSON"),
        (b'{"a": {"dtype":"F32","shape":[2],"data_offsets":[0,8]}, "a": {}}', "duplicate key 'a'"),
        (b'{"a": {"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', "duplicate key 'dtype'"),
        ({}, "tensors end at byte"),
        ({"a": 1}, "exactly the keys"),
        ({"a": _entry(extra=1)}, "exactly the keys"),
        ({"a": _entry(dtype="F31")}, "unknown dtype"),
        ({"a": _entry(dtype=["F32"])}, "unknown dtype"),
        ({"a": _entry(shape=[-2])}, "non-negative"),
        ({"a": _entry(shape=[True, 2])}, "non-negative"),
        ({"a": _entry(shape=[2.0])}, "non-negative"),
        ({"a": _entry(shape=[1 << 62, 1 << 62])}, "needs"),
        ({"a": _entry(shape=[3])}, "needs 12 bytes, its offsets span 8"),
        ({"a": _entry(data_offsets=[0, 8, 9])}, "two non-negative integers"),
        ({"a": _entry(data_offsets=[8, 0])}, "offsets span -8"),
        ({"a": _entry(data_offsets=[8, 16])}, "leaves a gap"),
        ({"a": _entry(), "b": _entry(data_offsets=[4, 12])}, "overlaps its neighbour"),
        ({"a": _entry(), "b": _entry(data_offsets=[0, 8])}, "overlaps its neighbour"),
        ({"a": _entry(), "b": _entry(data_offsets=[1 << 40, (1 << 40) + 8])}, "leaves a gap"),
        ({"__metadata__": {"a": 1}, "a": _entry()}, "strings to strings"),
    ],
)
def test_hostile_headers(tmp_path: Path, header: Any, says: str) -> None:
    folder = make_adapter(tmp_path / "a")
    write_raw_safetensors(folder / TENSORS, header, b"\0" * 8)
    with pytest.raises(InvalidAdapter, match=says):
        read_manifest(folder)


@given(st.binary(max_size=200))
def test_random_bytes_are_never_more_than_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "random"
    if not folder.exists():
        make_adapter(folder)
    (folder / TENSORS).write_bytes(data)
    with pytest.raises(InvalidAdapter):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"r": 0}, "r"),
        ({"r": True}, "r"),
        ({"r": 8.0}, "r"),
        ({"lora_alpha": "8"}, "lora_alpha"),
        ({"lora_alpha": 1e300}, "lora_alpha"),
        ({"lora_alpha": 10**400}, "lora_alpha"),
        ({"target_modules": []}, "target_modules"),
        ({"target_modules": None}, "target_modules"),
        ({"target_modules": [1]}, "target_modules"),
        ({"rank_pattern": {"q_proj": 0}}, "rank_pattern"),
        ({"rank_pattern": {"(a+)+$": 4}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": None}}, "alpha_pattern"),
    ],
)
def test_malformed_configurations(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidAdapter) as caught:
        read_manifest(make_adapter(tmp_path / "a", config=change))
    assert [reason.field for reason in caught.value.reasons] == [f"adapter_config.json:{field}"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"r": 1, "r": 2}', '{"r": NaN}', "[" * 100_000, "\ufeff{}"])
def test_configurations_that_are_no_strict_json(tmp_path: Path, text: str) -> None:
    folder = make_adapter(tmp_path / "a")
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(InvalidAdapter, match=r"adapter_config\.json"):
        read_manifest(folder)


def test_infinite_alpha_written_as_1e400_is_refused(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a")
    config = json.loads((folder / "adapter_config.json").read_text())
    text = json.dumps(config | {"lora_alpha": 12345}).replace("12345", "1e400")
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(InvalidAdapter, match="lora_alpha"):
        read_manifest(folder)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_every_number_must_be_finite(tmp_path: Path, dtype: Any, bad: float) -> None:
    tensors = {name: value.astype(dtype) for name, value in make_tensors().items()}
    sound = make_adapter(tmp_path / "sound", tensors=tensors)
    numbers = inspect_numbers(sound, read_manifest(sound))
    assert numbers.reasons == () and not numbers.is_noop
    name = sorted(tensors)[2]
    tensors[name][1, 2] = tensors[name][0, 0] = bad
    broken = make_adapter(tmp_path / "broken", tensors=tensors)
    (reason,) = inspect_numbers(broken, read_manifest(broken)).reasons
    assert reason.field == f"{TENSORS}:{name}" and "holds 2 numbers" in reason.problem


@pytest.mark.parametrize(
    ("bits", "finite"), [(0x3F80, True), (0x477F, True), (0x4780, False), (0x7F80, False), (0xFFC1, False)]
)
def test_bfloat16_is_judged_by_its_bits(tmp_path: Path, bits: int, finite: bool) -> None:
    """0x3F80 is 1, 0x477F is 65280, 0x4780 65536, 0x7F80 infinity, 0xFFC1 a NaN (IEEE 754's layout, 8-bit exponent)."""
    folder = make_adapter(tmp_path / "a")
    header = {"t.lora_B.weight": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [0, 4]}}
    write_raw_safetensors(folder / TENSORS, header, struct.pack("<HH", bits, 0))
    assert (not inspect_numbers(folder, read_manifest(folder)).reasons) is finite


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_no_number_is_beyond_float16(tmp_path: Path, dtype: Any) -> None:
    tensors = {name: value.astype(dtype) for name, value in make_tensors().items()}
    name = sorted(tensors)[2]
    tensors[name][1, 2] = -65504
    sound = make_adapter(tmp_path / "sound", tensors=tensors)
    assert inspect_numbers(sound, read_manifest(sound)).reasons == ()
    if dtype is np.float16:
        return
    tensors[name][0, 0] = 1e38
    tensors[name][1, 2] = -65504.01
    absurd = make_adapter(tmp_path / "absurd", tensors=tensors)
    (reason,) = inspect_numbers(absurd, read_manifest(absurd)).reasons
    assert "holds 2 numbers above 65504" in reason.problem


def test_an_adapter_without_effect_is_recognised(tmp_path: Path) -> None:
    tensors = make_tensors()
    for name in tensors:
        if "lora_B" in name:
            tensors[name] *= -0.0
    folder = make_adapter(tmp_path / "zero", tensors=tensors)
    assert inspect_numbers(folder, read_manifest(folder)).is_noop
    some = next(name for name in tensors if "lora_B" in name)
    tensors[some][0, 0] = 1e-30
    folder = make_adapter(tmp_path / "tiny", tensors=tensors)
    assert not inspect_numbers(folder, read_manifest(folder)).is_noop
    folder = make_adapter(tmp_path / "alpha", config={"lora_alpha": 0})
    assert inspect_numbers(folder, read_manifest(folder)).is_noop
