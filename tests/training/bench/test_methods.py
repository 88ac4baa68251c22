"""``graft bench methods``: its task, its table, how it goes on and its refusals; the long run is ``slow``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from graft.bench.training.forks import Done, StageFailed
from graft.bench.training.ledger import Ledger
from graft.bench.training.methods import measuring, route, subject, task, trial
from graft.bench.training.methods.measured import Measured
from graft.bench.training.methods.measuring import measure
from graft.bench.training.methods.reference import InFourBits, Reference
from graft.bench.training.methods.route import Servable
from graft.bench.training.methods.said import Said
from graft.bench.training.methods.table import figures, table
from graft.bench.training.methods.trial import METHODS, Trial, settings_of
from graft.cli.main import main
from graft.training.adapt.methods.catalog import MAKERS, method_of
from graft.training.rootstock.corpus.words import is_held_out

TRIAL = Trial(num_parameters=15_680, peak_bytes=790_000_000, own_bytes=240_000_000, tokens_per_second=1472.0)
EXACT = Servable(route="exact", told="graft compile makes it", rank=64, error=1e-7)
RIGHT = [row.completion for row in task.asked()]


def said(num_right: int, *, first: int = 7) -> Said:
    """So many right answers; the first token of the first one can be another."""
    texts = [*RIGHT[:num_right], *["no"] * (task.NUM_QUESTIONS - num_right)]
    return Said(ids=[[first, 2], *[[7, 2]] * (task.NUM_QUESTIONS - 1)], texts=texts)


def reference(num_right: int, below: float = 0.0, **others: Any) -> Reference:
    of_first = [below, *[0.0] * (task.NUM_QUESTIONS - 1)]
    return Reference(own=said(num_right), said=said(num_right), below_nats=of_first, **others)


def test_what_is_asked_was_never_learned() -> None:
    learned, asked = task.learned(), task.asked()
    assert (len(learned), len(asked)) == (task.NUM_ROWS, task.NUM_QUESTIONS)
    words = [row.prompt.removesuffix(" ->") for row in asked]
    assert all(is_held_out(word) for word in words)
    assert not {row.prompt for row in learned} & {row.prompt for row in asked}
    answers = [row.completion + "\nand more" for row in asked]
    assert task.accuracy(asked, answers) == 1.0
    assert task.accuracy(asked, [row.completion.lower() for row in asked]) == 0.0


@pytest.mark.parametrize("name", METHODS)
def test_every_row_is_a_method_that_can_be_trained(name: str) -> None:
    assert method_of(settings_of(name)).name


def test_every_method_has_a_row() -> None:
    assert {settings_of(name).method for name in METHODS} == set(MAKERS)


def test_a_row_tells_all_of_a_method() -> None:
    row = Measured(name="vera", trial=TRIAL, servable=EXACT, served=said(48), reference=reference(49))
    cells = (
        "| vera | 15,680 | 790 MB | 240 MB | 1,472 | 98% | graft compile makes it | 1e-07, 0 nats | 96% | 50 of 50 |"
    )
    assert cells in table({"vera": row}) and "Fell short" not in table({"vera": row})
    found = figures({"vera": row}, before=0.0)
    assert found["vera_accuracy"].value == 0.98 and found["vera_served_equal"].value == 1.0


@pytest.mark.parametrize(("below", "num_near"), [(0.29, 50), (0.31, 49)])
def test_another_answer_counts_as_another_and_as_near_only_where_it_is(below: float, num_near: int) -> None:
    row = Measured(name="lora", trial=TRIAL, servable=EXACT, served=said(50, first=8), reference=reference(50, below))
    assert (row.num_equal, row.num_near, row.below_nats) == (49, num_near, below)
    assert (row.shortfall is None) == (num_near == 50)
    assert f"| 49 of 50 | {num_near}, {below} nats |" in table({"lora": row})


def test_a_new_base_tells_what_four_bits_make_of_it() -> None:
    way = Servable(route="base", told="served as a new base")
    four = InFourBits(said=said(5), error=0.93)
    row = Measured(name="full", trial=TRIAL, servable=way, served=said(50), reference=reference(50, in_four_bits=four))
    assert "| served as a new base | none; in NF4 0.93, accuracy 10% | 100% |" in table({"full": row})
    assert figures({"full": row}, before=0.0)["full_four_bits_accuracy"].value == 0.1


def test_what_fell_short_is_said() -> None:
    poor = Measured(name="oft", trial=TRIAL, servable=EXACT, served=said(40), reference=reference(40))
    failed = Measured(name="ia3", trial=TRIAL, failure="not compiled: no room")
    shown = table({"oft": poor, "ia3": failed})
    assert "oft: accuracy 80%, promised are 90%\nia3: not compiled: no room" in shown
    assert "| not compiled: no room | – | – | – | – |" in shown
    assert "ia3_accuracy" not in figures({"ia3": failed}, before=0.0)


def test_a_failure_is_a_row_and_the_same_call_goes_on_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The parts are played; three methods of three ways, of which one fails in its training at first."""
    done: list[str] = []
    broken = {"ia3"}

    def run(name: str, base: Path, data: Path, work: Path) -> Trial:
        done.append(f"train {name}")
        if name in broken:
            raise StageFailed("ended with 2: no room")
        return TRIAL

    def servable(name: str, base: Path, work: Path) -> Servable:
        return Servable(route={"loha": "exact", "ia3": "merge", "houlsby": "none"}[name], told="somehow")

    def answers(self: measuring.Serving, prompts: Sequence[str]) -> list[tuple[str, Said]]:
        done.append(f"serve {sorted(self.adapters) or self.base.name}")
        return [(name, said(50)) for name in self.adapters or ("",)]

    def forked(work: Any, *arguments: Any, log: Path) -> Done:
        done.append(f"refer {arguments[0].method}")
        return Done(value=reference(50), peak_bytes=0, own_bytes=0)

    monkeypatch.setattr(trial, "run", run)
    monkeypatch.setattr(route, "servable", servable)
    monkeypatch.setattr(measuring.Serving, "answers", answers)
    monkeypatch.setattr(subject, "forked", forked)
    names = ["loha", "ia3", "houlsby"]
    rows = measure(names, tmp_path)
    assert {name: row.failure for name, row in rows.items()} == {
        "loha": None, "ia3": "not trained: ended with 2: no room", "houlsby": None
    }  # fmt: skip
    assert rows["loha"].num_equal == 50 and rows["houlsby"].num_equal is None
    assert "serve ['loha']" in done

    done.clear()
    broken.clear()
    again = measure(names, tmp_path)
    assert done == ["train ia3", "serve ia3-compiled", "refer ia3"]
    assert again["loha"] == rows["loha"] and again["ia3"].num_equal == 50 and again["ia3"].failure is None


def test_what_was_noted_under_another_key_is_not_known(tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    assert Ledger(path, "one").once("trained", lambda: {"speed": 1.5}) == {"speed": 1.5}
    assert Ledger(path, "one").once("trained", lambda: {"speed": 9.0}) == {"speed": 1.5}
    other = Ledger(path, "other")
    assert not other.knows("trained") and other.once("trained", lambda: {"speed": 9.0}) == {"speed": 9.0}
    with pytest.raises(ZeroDivisionError):
        other.once("served", lambda: 1 / 0)
    assert other.knows("trained") and not other.knows("served")


def test_wrong_flags_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("x")
    for flags, told in (
        (["--only", "lorra"], "--only lorra: the methods here are lora"),
        (["--json", "/no/such/folder/x.json"], "there is no folder /no/such/folder"),
        (["--work", str(tmp_path)], f"{tmp_path} holds something else: name a new folder with --work"),
    ):
        assert main(["bench", "methods", *flags]) == 2
        assert told in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_each_route_says_what_was_trained(tmp_path: Path) -> None:
    """One method of each way to a server: as it is, by a closed form, in front of the prompt, in a new base."""
    path = tmp_path / "figures.json"
    names = ["lora", "loha", "prompt_tuning", "ia3"]
    assert main(["bench", "methods", "--only", *names, "--json", str(path)]) == 0
    found = {name: figure["value"] for name, figure in json.loads(path.read_text()).items()}
    assert found["base_accuracy"] <= 0.1
    for name in names:
        assert found[f"{name}_accuracy"] >= 0.9, name
        assert found[f"{name}_served_near"] == 1.0, name
    assert found["loha_route_nats"] < 1e-4
    assert not path.with_suffix(".work").exists()
