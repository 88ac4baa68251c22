"""``graft bench methods``: its task, its table and its refusals; the long run is ``slow``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graft.bench.training.methods import task
from graft.bench.training.methods.measured import Measured
from graft.bench.training.methods.route import Servable
from graft.bench.training.methods.table import figures, table
from graft.bench.training.methods.trial import METHODS, Trial, settings_of
from graft.cli.main import main
from graft.training.adapt.method import Route
from graft.training.adapt.methods.catalog import method_of
from graft.training.rootstock.corpus.words import is_held_out


def test_what_is_asked_was_never_learned() -> None:
    learned, asked = task.learned(), task.asked()
    assert (len(learned), len(asked)) == (task.NUM_ROWS, task.NUM_QUESTIONS)
    words = [row.prompt.removesuffix(" ->") for row in asked]
    assert all(is_held_out(word) for word in words)
    assert not {row.prompt for row in learned} & {row.prompt for row in asked}
    said = [row.completion + "\nand more" for row in asked]
    assert task.accuracy(asked, said) == 1.0
    assert task.accuracy(asked, [row.completion.lower() for row in asked]) == 0.0


@pytest.mark.parametrize("name", METHODS)
def test_every_row_is_a_method_that_can_be_trained(name: str) -> None:
    assert method_of(settings_of(name)).name


def test_a_row_tells_all_of_a_method() -> None:
    row = Measured(
        trial=Trial(name="vera", adapter=Path("x"), peak_bytes=790_000_000, tokens_per_second=1472.0),
        servable=Servable(route=Route.EXACT, told="graft compile makes it", folder=Path("y"), rank=64, error=1e-7),
        num_parameters=15_680,
        accuracy=0.98,
        served_accuracy=0.96,
        num_equal=49,
    )
    shown = table({"vera": row})
    for cell in ("| vera | 15,680 | 790 MB | 1,472 | 98% | graft compile makes it | 1e-07, 0 nats | 96% | 49 of 50 |",):
        assert cell in shown
    found = figures({"vera": row}, before=0.0)
    assert found["vera_accuracy"].value == 0.98 and found["vera_served_equal"].value == 0.98


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--only", "lorra"], "--only lorra: the methods here are lora"),
        (["--json", "/no/such/folder/x.json"], "there is no folder /no/such/folder"),
    ],
)
def test_wrong_flags_are_told_at_once(flags: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "methods", *flags]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.slow
def test_each_route_says_what_was_trained(tmp_path: Path) -> None:
    """One method of each way to a server: as it is, by a closed form, in front of the prompt, in a new base."""
    path = tmp_path / "figures.json"
    assert main(["bench", "methods", "--only", "lora", "loha", "prompt_tuning", "ia3", "--json", str(path)]) == 0
    found = {name: figure["value"] for name, figure in json.loads(path.read_text()).items()}
    assert found["base_accuracy"] <= 0.1
    for name in ("lora", "loha", "prompt_tuning", "ia3"):
        assert found[f"{name}_accuracy"] >= 0.9, name
        assert found[f"{name}_served_equal"] == 1.0, name
    assert found["loha_route_nats"] < 1e-4
