"""YAML and JSON with lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from graft.training.errors import DataError
from graft.training.evaluation.tasks import located

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("located")


@given(value=VALUES, indent=st.sampled_from([None, 1, "\t"]), ascii_only=st.booleans())
def test_json_is_read_as_json(folder: Path, value: Any, indent: int | str | None, ascii_only: bool) -> None:
    path = folder / "x.json"
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    if not text.isprintable() and not ascii_only:
        return  # control characters as such belong to no file of text
    path.write_text(text, encoding="utf-8")
    assert located.read(path).value == value


def test_lines_and_refusals(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        "a: 1\nb:\n  - c: yes\n    d: 2020-01-01\n  - !function utils.f\nb: 2\ne: !!python/name:os.system\n"
    )
    file = located.read(path)
    assert file.lines["b", 0, "d"] == 4
    with pytest.raises(DataError) as error:
        file.check()
    told = str(error.value)
    assert "line 5: `!function` would run code" in told and "line 6: `b` is given twice" in told
    assert "line 7" in told and "os.system" in told


def test_booleans_of_either_yaml(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("[yes, no, true, on, 'true']\n")
    assert located.read(path).value == yaml.safe_load(path.read_text()) == [True, False, True, True, "true"]
    assert located.read(path, only_true_and_false=True).value == ["yes", "no", True, "on", "true"]


def test_merges_and_aliases(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: &a {b: 1, c: 2}\nd:\n  <<: *a\n  c: 3\n")
    file = located.read(path)
    assert file.value == yaml.safe_load(path.read_text()) and not file.reasons


def test_a_file_that_explodes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match="more than 500000 values"):
        located.read(path)
    path.write_text("a: " + "x" * (3 << 20))
    with pytest.raises(DataError, match="at most 2097152 are read"):
        located.read(path)
    path.write_text("[" * 5000 + "]" * 5000)
    with pytest.raises(DataError, match="deep"):
        located.read(path)


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "\t- x", "a: *nowhere"])
def test_what_is_no_yaml(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match="is no YAML"):
        located.read(path)
