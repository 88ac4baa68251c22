"""Fine-tunings in one training end as each does alone: the same files, byte for byte."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from graft.adapters.base.base import Base
from graft.cli.main import main
from graft.training.errors import ConfigurationError, Interrupted
from graft.training.finetune.job import Finetune
from graft.training.finetune.settings import FinetuneSettings
from graft.training.finetune.sweep.grid import Wanted
from graft.training.finetune.sweep.job import Sweep
from graft.training.loop.checkpoint import complete_checkpoints
from graft.training.loop.interruption import Interruption
from graft.training.loop.progress import read_metrics
from tests.training.adapt.together.members import rows_are_computed_alike
from tests.training.report.pages import Page

WORDS = ("ant", "bee", "cat", "dog", "elephant", "fox")
COMMON = {"per_device_train_batch_size": 2, "learning_rate": 0.01, "report_examples": 0}
RUNS: Mapping[str, Mapping[str, object]] = {
    "small": {"r": 4, "max_steps": 3},
    "large": {"r": 16, "gradient_accumulation_steps": 2, "num_train_epochs": 2.0, "seed": 7, "use_rslora": True},
    "dropped": {"lora_dropout": 0.2, "lora_alpha": 5.0, "max_steps": 5, "save_steps": 2, "packing": False},
}
TIMES = {"seconds", "tokens_per_second", "mfu", "memory"}


def wanted(folder: Path, runs: Mapping[str, Mapping[str, object]] = RUNS) -> list[Wanted]:
    found = []
    for number, (name, own) in enumerate(runs.items(), start=3):
        data = folder / f"{name}.jsonl"
        rows = [{"prompt": f"{word} -> ", "completion": word.upper()} for word in WORDS[:number]]
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        settings = FinetuneSettings.from_mapping({**COMMON, **own, "validation": str(data)})
        found.append(Wanted(name=name, data=data, settings=settings, varied=own))
    return found


def alone(base: Path, one: Wanted, folder: Path, *, resume: bool = False) -> Path:
    job = Finetune(base=Base.from_folder(base), data=one.data, settings=one.settings, work=folder / one.name)
    job.execute(resume=resume)
    return job.work


def sweep(base: Path, runs: Sequence[Wanted], folder: Path) -> Sweep:
    return Sweep(base=Base.from_folder(base), wanted=runs, work=folder)


def check_the_same(one: Path, other: Path) -> None:
    """All files of an adapter, who made it, and what was told of each step."""
    if rows_are_computed_alike():
        for name in ("adapter_model.safetensors", "adapter_config.json", "graft.json", "reference.json"):
            assert (one / "adapter" / name).read_bytes() == (other / "adapter" / name).read_bytes(), name
        told = [
            [{name: value for name, value in row.items() if name not in TIMES} for row in read_metrics(each)]
            for each in (one, other)
        ]
        assert told[0] == told[1]
    weights = [load_file(each / "adapter" / "adapter_model.safetensors") for each in (one, other)]
    torch.testing.assert_close(*weights, atol=1e-2, rtol=1e-2)
    assert (one / "job.json").read_text() == (other / "job.json").read_text()


def test_each_ends_as_alone_also_when_it_was_interrupted(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = wanted(tmp_path)
    results = sweep(tiny_base, runs, tmp_path / "together").execute()
    assert [(one.name, len(one.rows), one.failure) for one in results] == [
        ("small", 3, None), ("large", 2, None), ("dropped", 5, None)
    ]  # fmt: skip
    for one in runs:
        check_the_same(alone(tiny_base, one, tmp_path / "alone"), tmp_path / "together" / one.name)
    values = json.loads((tmp_path / "together" / "sweep.json").read_text())
    losses = [one["validation_loss"] for one in values]
    assert losses == sorted(losses) and {one["name"] for one in values} == set(RUNS)
    page = Page.read(tmp_path / "together" / "sweep.html")
    pages = [tmp_path / "together" / link for link in page.links if not link.startswith("#")]
    assert "table" in page.tags and len(pages) > 1 and all("<svg" in one.read_text() for one in pages)

    cut = tmp_path / "cut"
    with monkeypatch.context() as patched:
        patched.setattr(Interruption, "is_asked", lambda self: len(read_metrics(cut / "dropped")) == 3)
        with pytest.raises(Interrupted, match="go on with --resume"):
            sweep(tiny_base, runs, cut).execute()
    assert complete_checkpoints(cut / "dropped") and not (cut / "small" / "adapter").exists()
    shutil.copytree(cut / "dropped", tmp_path / "going on alone" / "dropped")
    sweep(tiny_base, runs, cut).execute(resume=True)
    for one in runs:
        check_the_same(cut / one.name, tmp_path / "together" / one.name)
    check_the_same(
        alone(tiny_base, runs[2], tmp_path / "going on alone", resume=True), tmp_path / "together" / "dropped"
    )


def test_one_that_fails_leaves_the_others_be(tiny_base: Path, tmp_path: Path) -> None:
    runs = {"well": {"max_steps": 4}, "ill": {"learning_rate": 1e38, "max_steps": 12, "max_grad_norm": 1e30}}
    chosen = wanted(tmp_path, runs)
    well, ill = sweep(tiny_base, chosen, tmp_path / "together").execute()
    assert well.failure is None and ill.failure is not None and "lower the learning rate" in ill.failure
    assert not (tmp_path / "together" / "ill" / "adapter").exists()
    check_the_same(alone(tiny_base, chosen[0], tmp_path / "alone"), tmp_path / "together" / "well")


def test_what_is_wrong_in_any_run_is_found_before_anything_is_written(tiny_base: Path, tmp_path: Path) -> None:
    runs = wanted(tmp_path, {"one": {"max_length": 3}, "two": {"target_modules": ["nothing"]}, "three": {}})
    with pytest.raises(ConfigurationError) as raised:
        sweep(tiny_base, runs, tmp_path / "together").execute()
    told = str(raised.value)
    assert "run one: " in told and "max_length is 3" in told and "run two: " in told and "run three" not in told
    assert not (tmp_path / "together").exists()


def test_the_command_tells_the_best_first(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (one, _, _) = wanted(tmp_path)
    text = f"data: {one.data.name}\nsettings: {json.dumps(COMMON)}\ngrid: {{max_steps: [1, 8], r: [4]}}\n"
    (tmp_path / "tries.yaml").write_text(text)
    typed = ["finetune", "--base", str(tiny_base), "--sweep", str(tmp_path / "tries.yaml")]
    assert main([*typed, "--plan"]) == 0
    assert "base 0.0" in capsys.readouterr().out
    assert main([*typed, "--output", str(tmp_path / "out")]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| tries")]
    assert [row.split(" | ")[0] for row in rows] == ["| tries-steps-8-r4", "| tries-steps-1-r4"]
    assert main([*typed, "--alias", "canary", "--ray", "2"]) == 2
    told = capsys.readouterr().err
    assert "--ray is not for --sweep" in told and "add --push" in told
