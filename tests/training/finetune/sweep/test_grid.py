"""Files of sweeps: which runs they name, and all that is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from graft.training.errors import ConfigurationError
from graft.training.finetune.settings import FinetuneSettings
from graft.training.finetune.sweep.against import check_together
from graft.training.finetune.sweep.grid import Wanted, read_grid
from graft.training.job.sources import Sources


def read(folder: Path, text: str, **given: object) -> list[Wanted]:
    (folder / "grid.yaml").write_text(text)
    return read_grid(folder / "grid.yaml", name="spam", data=None, given=given)


def test_every_run_has_every_combination(tmp_path: Path) -> None:
    text = """
data: rows.jsonl
settings: {lora_alpha: 8, validation: held-out.jsonl}
grid: {learning_rate: [1e-3, 0.01], r: [4, 8]}
runs: [{name: acme, data: acme.jsonl, seed: 3, alias: canary}, {seed: 4}]
"""
    found = read(tmp_path, text, max_steps="7")
    assert [one.name for one in found] == [
        *("acme-lr0.001-r4", "acme-lr0.001-r8", "acme-lr0.01-r4", "acme-lr0.01-r8"),
        *("spam-seed-4-lr0.001-r4", "spam-seed-4-lr0.001-r8", "spam-seed-4-lr0.01-r4", "spam-seed-4-lr0.01-r8"),
    ]
    first, last = found[0], found[-1]
    assert first.settings == FinetuneSettings(
        lora_alpha=8, learning_rate=1e-3, r=4, seed=3, max_steps=7, validation=str(tmp_path / "held-out.jsonl")
    )
    assert [Sources.of(one.data).paths for one in (first, last)] == [
        [tmp_path / "acme.jsonl"],
        [tmp_path / "rows.jsonl"],
    ]
    assert (first.alias, last.alias) == ("canary", None)
    assert last.varied == {"seed": 4, "learning_rate": 0.01, "r": 8}


WRONG: Sequence[tuple[str, Sequence[str]]] = [
    ("grid: {r: [4]}\ndata: rows.jsonl", ["fewer than two runs"]),
    ("grid: {r: [4, 8]}", ["it names no data: say data in the file, or --data"]),
    ("data: a.jsonl\nruns: [{name: a}, {name: a}]", ["2 runs are called a"]),
    ("data: a.jsonl\nruns: [{name: A B}, {name: prompt}]", ["'A B' is not a name", "'prompt' is reserved"]),
    ("data: {a.jsonl: 1}\ngrid: {r: [4, 8]}", ["a file is its path, or has a path and a weight"]),
    ("data: a.jsonl\nruns: 3", ["runs: it must be a list", "fewer than two runs"]),
    (
        "sets: 1\nr: 4\ndata: a.jsonl\nsettings: {seed: 1}\ngrid: {seed: [1, 1], rr: [2], r: 5, lora_alpha: [0, x]}\n"
        "runs: [{name: a, r: 0}, {name: b, seed: 2}]",
        [
            "unknown key 'sets'; did you mean 'settings'?",
            "unknown key 'r'; put it under settings, grid or runs",
            "grid: seed names 1 twice",
            "grid: unknown setting 'rr'",
            "grid: r has the value 5; it must be a list of values",
            "grid: setting 'lora_alpha' has the value 0.0",
            "grid: setting 'lora_alpha' has the value 'x'",
            "grid: seed is said in settings, too",
            "run a: setting 'r' has the value 0",
            "run b: seed is in the grid, too",
        ],
    ),
]


@pytest.mark.parametrize(("text", "problems"), WRONG)
def test_all_that_is_wrong_is_told_at_once(tmp_path: Path, text: str, problems: Sequence[str]) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read(tmp_path, text)
    head, *lines = str(raised.value).splitlines()
    assert head == f"{tmp_path / 'grid.yaml'} cannot be used:"
    for problem in problems:
        assert any(problem in line for line in lines), problem
    assert len(lines) == len(problems)


def test_what_cannot_be_trained_together_is_refused_with_its_reason() -> None:
    plain = FinetuneSettings()
    settings = [
        plain,
        replace(plain, load_in_4bit=False),
        replace(plain, attn_implementation="eager"),
        replace(plain, lora_dropout=0.1, gradient_checkpointing="full"),
        replace(plain, dp_replicate=2, metrics_port=8000),
    ]
    wanted = [
        Wanted(name=f"run-{number}", data=Path("rows.jsonl"), settings=one, varied={})
        for number, one in enumerate(settings)
    ]
    check_together(wanted[:1], device="cpu")
    with pytest.raises(ConfigurationError) as raised:
        check_together(wanted, device="cpu")
    told = str(raised.value)
    for part in (
        *("form says how the base is held", "attn_implementation says", "gradient_checkpointing says"),
        *(
            "run-2: attn_implementation 'eager'",
            "run-3: lora_dropout",
            "run-4: wandb and metrics_port",
            "run-4: runs are",
        ),
    ):
        assert part in told, part
