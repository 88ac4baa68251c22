import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from graft.training.batch.data import WHOLE, Data, Share
from graft.training.batch.packing import PackedBatch
from graft.training.errors import CheckpointError, ConfigurationError, Diverged
from graft.training.loop import progress
from graft.training.loop import step as step_module
from graft.training.loop.checkpoint import Keeping, checkpoint_values, complete_checkpoints, step_of
from graft.training.loop.optim import Schedule, adamw, muon
from graft.training.loop.resuming import take_over
from graft.training.loop.state import State
from graft.training.model.attention import in_blocks
from graft.training.objective.causal import CausalObjective
from graft.training.parallel.layout import Alone
from graft.training.rootstock.job import Pretrain
from graft.training.rootstock.recipe import Recipe, llama_config, recipe_of, rootstock_5m
from graft.training.rootstock.tokenizer import build_tokenizer
from tests.training.loop.checkpoints import save_checkpoint

CONFIG = llama_config(build_tokenizer(256), width=64, num_layers=1)
CONFIG.intermediate_size = 192  # bitsandbytes' CPU code demands multiples of 64


def recipe(num_steps: int = 4) -> Recipe:
    return dataclasses.replace(
        rootstock_5m(num_steps=num_steps),
        config=CONFIG,
        num_rows=2,
        length=256,
        warmup_steps=2,
        nf4_share=0.5,
    )


def test_resuming_gives_the_same_weights_to_the_bit(tmp_path: Path) -> None:
    whole = recipe().run(tmp_path / "whole")
    whole.execute()

    class Interrupted(Exception):
        pass

    broken = recipe().run(tmp_path / "broken")
    broken.checkpoint_steps = 1
    broken.data = _Breaking(broken.data, at_step=3, error=Interrupted())
    with pytest.raises(Interrupted):
        broken.execute()
    resumed = recipe().run(tmp_path / "broken")
    resumed.execute(resume=True)

    for (name, expected), (_, found) in zip(
        whole.step.model.named_parameters(), resumed.step.model.named_parameters(), strict=True
    ):
        assert torch.equal(expected, found), name
    steps = [json.loads(line)["step"] for line in (tmp_path / "broken" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [0, 1, 2, 3]
    assert (tmp_path / "broken" / "loss_curve.png").stat().st_size > 1000


class _Breaking:
    """Data that fail at one step, as a power cut would."""

    def __init__(self, data: Data[PackedBatch], *, at_step: int, error: Exception) -> None:
        self.data, self.at_step, self.error = data, at_step, error

    def batches(self, step: int, share: Share = WHOLE) -> Sequence[PackedBatch]:
        if step == self.at_step:
            raise self.error
        return self.data.batches(step, share)


def test_pretraining_writes_a_base_that_transformers_loads(tmp_path: Path) -> None:
    job = Pretrain(
        recipe=recipe(num_steps=2), work=tmp_path / "work", output=tmp_path / "bases" / "seedling", num_trials=1
    )
    job.execute(resume=False)
    model = LlamaForCausalLM.from_pretrained(job.output)
    assert model.config.vocab_size == 384 and model.dtype == torch.bfloat16
    (checkpoint,) = complete_checkpoints(job.work)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in checkpoint.iterdir()}
    card = (job.output / "README.md").read_text()
    assert "apache-2.0" in card and "4-shot over 0-shot" in card
    with pytest.raises(CheckpointError, match="--resume"):
        job.execute(resume=False)


def test_learning_reduces_the_loss(tmp_path: Path) -> None:
    run = dataclasses.replace(recipe(num_steps=16), nf4_share=0.0).run(tmp_path)
    run.execute()
    losses = [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert losses[0] == pytest.approx(5.95, abs=0.3)  # ln 384: nothing is known
    assert sum(losses[-5:]) / 5 < losses[0] - 1


def test_a_run_attends_in_blocks_and_keeps_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    monkeypatch.setattr(step_module, "keep_freed_memory", lambda: kept.append(True))
    run = recipe(num_steps=1).run(tmp_path)
    run.execute()
    assert run.step.model.config._attn_implementation == in_blocks.NAME
    assert kept == [True]


def test_measuring_is_no_part_of_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def measure(*given: object) -> dict[str, float]:
        clock.now += 100.0
        return {"validation_loss": 1.0}

    run = recipe(num_steps=2).run(tmp_path)
    learn = run.step.learn

    def slowly(*given: Any, **options: Any) -> dict[str, float]:
        clock.now += 3.0
        return learn(*given, **options)

    monkeypatch.setattr(run.step, "learn", slowly)
    run.held_out, run.held_out_steps = SimpleNamespace(measure=measure), 1  # type: ignore[assignment]
    run.execute()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["seconds"], line["validation_loss"]) for line in lines] == [(3.0, 1.0)] * 2


def test_a_gradient_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    run = recipe().run(tmp_path)
    with torch.no_grad():
        run.step.state.masters["model.norm.weight"].fill_(float("nan"))
    run.step.go_on(0)
    with pytest.raises(Diverged, match="at step 2, and so it was in the steps before; lower the learning rate") as told:
        run.execute()
    assert "start anew" in str(told.value) and "--resume" not in str(told.value)  # which would keep the rate


class _Spoilt(CausalObjective):
    """Its loss is no number in some batches."""

    def __init__(self, bad: set[int]) -> None:
        super().__init__()
        object.__setattr__(self, "bad", bad)
        object.__setattr__(self, "number", iter(range(1000)))

    def sums(self, model: nn.Module, batch: PackedBatch) -> Mapping[str, Tensor]:
        factor = float("nan") if next(self.number) in self.bad else 1.0  # type: ignore[attr-defined]
        return {name: total * factor for name, total in super().sums(model, batch).items()}


def test_a_step_that_is_no_number_is_skipped_and_counted(tmp_path: Path) -> None:
    run = dataclasses.replace(recipe(num_steps=6), nf4_share=0.0).run(tmp_path)
    run.step.objective = _Spoilt({2})
    metrics = run.execute()
    assert metrics["skipped"] == 1 and metrics["loss"] < 6
    assert all(torch.isfinite(parameter).all() for parameter in run.step.model.parameters())


@pytest.mark.parametrize("spoils", [True, False])
def test_what_ends_in_no_numbers_is_no_model(spoils: bool, tmp_path: Path) -> None:
    """The last step's loss, or the weights behind it; and neither when the finished run is repeated."""
    made = dataclasses.replace(recipe(num_steps=2), nf4_share=0.0)
    for resume in (False, True):
        run = made.run(tmp_path)
        if spoils:
            run.step.objective = _Spoilt({1})
        else:
            run.learning_rate = float("inf")
        with pytest.raises(Diverged, match="are no numbers after step 1, the last: nothing is made"):
            run.execute(resume=resume)


def test_after_several_the_run_goes_back_and_then_on(tmp_path: Path) -> None:
    """Steps 4 to 6 are spoilt: the weights are those of the checkpoint after step 3 when step 7 begins."""
    run = dataclasses.replace(recipe(num_steps=8), nf4_share=0.0).run(tmp_path)
    run.step.objective, run.checkpoint_steps = _Spoilt({4, 5, 6}), 2
    metrics = run.execute()
    assert metrics["skipped"] == 3 and run.guard.num_returns == 1
    losses = [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert losses[4:7] == [None] * 3 and losses[-1] < losses[0]


def test_reading_15_what_was_left_out_is_said_at_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = dataclasses.replace(recipe(num_steps=6), nf4_share=0.0).run(tmp_path)
    run.step.objective = _Spoilt({2, 4})
    run.execute()
    told = [record.getMessage() for record in caplog.records if "were left out" in record.getMessage()]
    assert len(told) == 1 and told[0].startswith("2 steps were left out") and ": 2, 4. " in told[0]


class _Risen(CausalObjective):
    """Its loss is larger from a step on."""

    def __init__(self, start: int, factor: float) -> None:
        super().__init__()
        object.__setattr__(self, "factors", iter([1.0] * start + [factor] * 1000))

    def sums(self, model: nn.Module, batch: PackedBatch) -> Mapping[str, Tensor]:
        factor = next(self.factors)  # type: ignore[attr-defined]
        return {name: total * factor for name, total in super().sums(model, batch).items()}


@pytest.mark.parametrize("has_checkpoint", [True, False])
def test_reading_15_a_rise_that_lasts_ends_no_run(has_checkpoint: bool, tmp_path: Path) -> None:
    run = dataclasses.replace(recipe(num_steps=44), nf4_share=0.0, num_rows=2).run(tmp_path)
    run.step.objective = _Risen(34, 10.0)
    run.checkpoint_steps = 33 if has_checkpoint else None
    metrics = run.execute()
    assert metrics["skipped"] == 3 and run.guard.skipped == [34, 35, 36]


def test_reading_15_a_new_form_of_the_weights_is_not_compared_with_the_old(tmp_path: Path) -> None:
    run = dataclasses.replace(recipe(num_steps=50), nf4_share=10 / 50, num_rows=2).run(tmp_path)
    run.step.objective = _Risen(40, 10.0)
    assert run.execute()["skipped"] == 0


class _Hears(Alone):
    """Another process than the first, whose disk is a little ahead of what the first one saw."""

    def __init__(self, said: Sequence[float]) -> None:
        super().__init__()
        self.said = iter(said)

    def agree(self, value: float) -> float:
        return next(self.said)


def test_reading_21_the_first_process_chooses_the_checkpoint_for_all(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        tensors = {"master/w": torch.full((2,), float(step))}
        save_checkpoint(tmp_path, step, tensors, {"step": step}, keep=3)
    state = State(masters={"w": nn.Parameter(torch.zeros(2))}, optimizers=[])
    assert take_over(tmp_path, state, _Hears([2, 2])) == {"step": 2}
    assert torch.equal(state.masters["w"], torch.full((2,), 2.0))
    with pytest.raises(CheckpointError, match="checkpoint-9"):
        take_over(tmp_path, state, _Hears([1, 9]))


@given(st.lists(st.integers(1, 200), unique=True), st.integers(1, 4), st.integers(1, 9) | st.none(), st.integers(0, 99))
def test_of_checkpoints_the_newest_stay_and_every_nth(
    steps: list[int], newest: int, every: int | None, milestone: int
) -> None:
    steps.sort()
    keeping = Keeping(newest=newest, every=every, milestone=milestone)
    gone = keeping.superfluous(steps)
    stay = [step for step in steps if step not in gone]
    assert stay[-newest:] == steps[-newest:] and keeping.superfluous(stay) == []
    assert not any(step % every == 0 for step in gone if every)
    assert [step for step in stay if step <= milestone][-1:] == [step for step in steps if step <= milestone][-1:]
    assert len(stay) <= newest + 1 + (sum(step % every == 0 for step in steps) if every else 0)


def test_every_nth_checkpoint_is_written_and_stays(tmp_path: Path) -> None:
    run = recipe(num_steps=7).run(tmp_path)
    run.keeping, run.checkpoint_steps = Keeping(newest=1, every=3), 2
    run.execute()
    assert [step_of(path) for path in complete_checkpoints(tmp_path)] == [3, 6, 7]


def test_unfinished_checkpoints_do_not_count(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        save_checkpoint(tmp_path, step, {"x": torch.ones(1)}, {"step": step}, keep=3)
    (tmp_path / "checkpoint-10" / "COMPLETE").unlink()
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["checkpoint-1", "checkpoint-2"]
    with pytest.raises(CheckpointError, match="checkpoint-10"):
        checkpoint_values(tmp_path / "checkpoint-10")


@pytest.mark.parametrize("shape, middle", [("cosine", 0.5), ("linear", 0.5), ("constant", 1.0), ("wsd", 1.0)])
def test_schedule(shape: str, middle: float) -> None:
    schedule = Schedule(num_steps=110, warmup_steps=10, shape=shape)
    assert schedule(0) == 0.1 and schedule(9) == 1.0
    assert schedule(60) == pytest.approx(middle)
    assert schedule(110) == pytest.approx(0.0 if shape != "constant" else 1.0)


@given(
    st.sampled_from(["constant", "wsd", "cosine", "linear"]), st.integers(1, 60), st.integers(1, 60), st.integers(0, 20)
)
def test_R7_the_steady_steps_are_those_of_any_longer_training(shape: str, num: int, more: int, warmup: int) -> None:
    short, long = (Schedule(num_steps=one, warmup_steps=warmup, shape=shape, floor=0.1) for one in (num, num + more))
    steady = short.steady_steps
    assert [short(step) for step in range(steady)] == [long(step) for step in range(steady)]
    assert short.shared_steps(long, num) >= steady
    assert shape != "constant" or steady == num
    assert shape != "wsd" or steady >= 0.8 * (num - warmup)


def test_muon_takes_the_matrices_of_the_blocks(model: LlamaForCausalLM) -> None:
    hidden, rest = muon()(dict(model.named_parameters()))
    assert len(hidden.param_groups[0]["params"]) == 2 * 7
    assert [len(group["params"]) for group in rest.param_groups] == [1, 2 * 2 + 1]
    (everything,) = adamw()(dict(model.named_parameters()))
    matrices, norms = everything.param_groups
    assert matrices["weight_decay"] == 0.01 and norms["weight_decay"] == 0.0
    assert (len(matrices["params"]), len(norms["params"])) == (15, 5)


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="rootstock-5m"):
        recipe_of("oak", num_steps=None, seed=0)
