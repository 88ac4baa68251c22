"""The report on a GPU, rehearsed on the CPU: every part runs, and none takes another with it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from graft.bench.training.gpu import __main__ as module
from graft.bench.training.gpu.parts import attention, head
from graft.bench.training.gpu.report import PARTS, Outcome, Report, read, told
from graft.bench.training.gpu.teller import Teller
from graft.cli.main import main


def measured(part: Any) -> Outcome:
    stream = io.StringIO()
    part.measure(Teller(rehearses=True, stream=stream))
    return read(stream.getvalue().splitlines())


def test_what_a_part_said_before_it_fell_is_kept() -> None:
    said = [
        '{"name": "speed", "value": 1234.5678, "unit": "tokens/s"}',
        "a library's own word",
        "3",
        '{"lacks": "bitsandbytes"}',
        '{"name": "profile", "text": "99 % aten::mm"}',
        '{"name": "cut off',
    ]
    outcome = read(said)
    assert outcome.figures == [{"name": "speed", "value": 1234.5678, "unit": "tokens/s"}]
    assert (outcome.lacks, outcome.texts) == (["bitsandbytes"], {"profile": "99 % aten::mm"})
    text = told("pretrain", outcome)
    assert "## pretrain: failed" in text and "| speed | 1235 | tokens/s |" in text and "not here: bitsandbytes" in text


def test_a_part_that_fails_or_takes_too_long_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    monkeypatch.setitem(PARTS, "teller", 60.0)  # type: ignore[index]  # no such part is there
    monkeypatch.setitem(PARTS, "attention", 0.0)  # type: ignore[index]
    report = Report(["teller", "attention", "machine"], seconds=30, rehearse=True, path=path)
    report.execute()
    written = json.loads(path.read_text())
    assert written["rehearsal"] is True
    assert {name: one["status"] for name, one in written["parts"].items()}["attention"] == "left out"
    assert "No module named" in written["parts"]["teller"]["lacks"][0]
    assert written["parts"]["machine"]["figures"]


def test_without_a_gpu_nothing_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    report = ["--json", str(tmp_path / "report.json")]
    for command, words in ((main, ["bench", "gpu", *report]), (module.main, report)):
        assert command(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "no CUDA device is here" in line
    assert main(["bench", "gpu", "--rehearse", "--only", "haed"]) == 2
    assert "--only haed: the parts are machine, finetune, head, attention" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [RuntimeError("mm: no out_dtype\nhere"), TypeError("out_dtype"), AttributeError("out_dtype")]
)
def test_a_head_that_this_torch_cannot_compute_is_named_and_the_others_are_measured(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*args: Any, **options: Any) -> Tensor:
        raise error

    monkeypatch.setattr(head, "head_cross_entropy", lacking)
    found = measured(head)
    assert any(f"{type(error).__name__}: {str(error).splitlines()[0]}" in one for one in found.lacks)
    assert any(one["name"].startswith("whole") for one in found.figures)
    assert not any(one["name"].startswith("ours") for one in found.figures)


def test_attention_by_a_mask_takes_no_slow_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of CUDA's kernels only the one that is written out takes a mask and keys of groups."""
    real, asked = functional.scaled_dot_product_attention, list[dict[str, Any]]()

    def seen(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        if options["attn_mask"].ndim == 4:  # that of whole rows
            asked.append({**options, "heads": (query.shape[1], key.shape[1], value.shape[1])})
        return real(query, key, value, **options)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", seen)
    assert any("mask" in one["name"] for one in measured(attention).figures)
    assert asked and not any(one.get("enable_gqa") for one in asked)
    assert all(len(set(one["heads"])) == 1 for one in asked)


def test_attention_by_a_mask_and_by_offsets_is_the_same() -> None:
    inputs, pieces = attention._made(torch.device("cpu"), 2, 64)
    mask = pieces.mask(rows=2, length=64, window=None)
    by_mask = attention._masked(*inputs, mask).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(
        by_mask, attention._by_offsets(attention.reference, *inputs, pieces), atol=1e-2, rtol=1e-2
    )


@pytest.mark.slow
def test_every_part_runs_here(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    path = tmp_path / "report.json"
    assert main(["bench", "gpu", "--rehearse", "--json", str(path)]) == 0
    parts = json.loads(path.read_text())["parts"]
    assert list(parts) == list(PARTS)
    assert all(one["status"] == "ok" and (one["figures"] or one["lacks"]) for one in parts.values())
