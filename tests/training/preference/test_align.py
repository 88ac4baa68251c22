"""Trainings on preferences: what is learned, that nothing is lost by a stop, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification

from graft.adapters.base.base import Base
from graft.adapters.folder.record import TrainedRecord
from graft.adapters.form import ServingForm
from graft.cli.main import main
from graft.training.batch.encoding import RowEncoder
from graft.training.batch.rows.row import Completion
from graft.training.errors import ConfigurationError, DataError
from graft.training.loop.progress import read_metrics
from graft.training.model.loading import load_base, load_tokenizer
from graft.training.preference.job import Align
from graft.training.preference.settings import LOSSES, REWARD, AlignSettings
from tests.training.report.pages import Page

WORDS = ("ant", "bee", "cat", "dog", "eel", "fox")
PAIRS = [{"prompt": f"{word} -> ", "chosen": word.upper(), "rejected": word} for word in WORDS]


def job(base: Path, folder: Path, rows: list[dict[str, Any]] = PAIRS, **settings: object) -> Align:
    folder.mkdir(exist_ok=True)
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    few = {"per_device_train_batch_size": 3, "learning_rate": 0.005, "max_steps": 4, "report_examples": 0}
    checked = AlignSettings.from_mapping({**few, **settings})
    return Align(base=Base.from_folder(base), data=data, settings=checked, work=folder / "run")


@pytest.mark.parametrize("precomputed", [True, False])
def test_pairs_part(tiny_base: Path, tmp_path: Path, precomputed: bool) -> None:
    align = job(
        tiny_base,
        tmp_path,
        max_steps=16,
        eval_steps=16,
        validation=str(tmp_path / "rows.jsonl"),
        precompute_ref_log_probs=precomputed,
        report_examples=2 if precomputed else 0,
    )
    folder = align.execute()
    first, *_, last = read_metrics(align.work)
    # A policy begins as its reference: every pair is a toss-up, exactly, or but for the place of an answer in a batch.
    rounding = 2e-3 if precomputed else 1e-6
    assert first["loss"] == pytest.approx(math.log(2), abs=rounding)
    assert first["rewards/margins"] == pytest.approx(0, abs=2 * rounding)
    assert last["loss"] < 0.4 and last["rewards/accuracies"] == 1 and last["rewards/margins"] > 1
    assert last["validation_rewards/accuracies"] == 1
    assert last["validation_loss"] < 0.4
    record = TrainedRecord.read(folder)
    assert record is not None and str(record.lineage.job).startswith("align-")
    assert (folder / "reference.json").exists()
    page = Page.read(align.work / "report.html")
    assert page.tags.count("article") == (2 if precomputed else 0)  # examples before and after
    assert page.inside("mark")[:2] == ["ANT<|eos|>", "ant<|eos|>"]
    for told in ("row 1: chosen", "margin between the rewards", "graft adapters push", record.lineage.data_digest):
        assert str(told) in page.text, told


@pytest.mark.parametrize("loss_type", [one for one in LOSSES if one not in ("sigmoid", REWARD)])
def test_every_loss_goes_down(tiny_base: Path, tmp_path: Path, loss_type: str) -> None:
    beta = {"simpo": 2.0, "ipo": 0.5, "kto": 0.5}.get(loss_type, 0.1)
    smoothing = 0.1 if loss_type == "robust" else 0.0
    align = job(tiny_base, tmp_path, max_steps=12, loss_type=loss_type, beta=beta, label_smoothing=smoothing)
    align.execute()
    metrics = read_metrics(align.work)
    assert sum(row["loss"] for row in metrics[-2:]) < sum(row["loss"] for row in metrics[:2])
    assert metrics[-1]["rewards/chosen"] > metrics[-1]["rewards/rejected"]
    if loss_type == "kto":
        assert "row 1: bad" in Page.read(align.work / "report.html").text


@pytest.mark.parametrize("options", [{}, {"loss_type": "kto"}, {"num_train_epochs": 4, "max_steps": None}])
def test_a_training_that_is_stopped_and_goes_on_gives_the_same(
    tiny_base: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    settings = {"save_steps": 2, "lora_dropout": 0.1, "gradient_accumulation_steps": 2, **options}
    once = job(tiny_base, tmp_path / "once", **settings).execute()
    again = job(tiny_base, tmp_path / "again", **settings)
    again.execute()
    newest = max(again.work.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    newest.rename(tmp_path / "newest")
    resumed = again.execute(resume=True)
    first, other = (load_file(folder / "adapter_model.safetensors") for folder in (once, resumed))
    assert all(torch.equal(first[name], other[name]) for name in first)


def test_a_reward_model_tells_good_from_bad(tiny_base: Path, tmp_path: Path) -> None:
    settings = {
        "loss_type": REWARD,
        "max_steps": 16,
        "save_steps": 8,
        "center_rewards_coefficient": 0.01,
        "report_examples": 2,
    }
    align = job(tiny_base, tmp_path, [{**row, "margin": 0.5} for row in PAIRS], **settings)
    folder = align.execute()
    metrics = read_metrics(align.work)
    assert metrics[-1]["loss"] < metrics[0]["loss"] and metrics[-1]["accuracy"] == 1
    assert any(".score." in name for name in load_file(folder / "adapter_model.safetensors"))
    # As others read it: peft on the class with a head, one answer at a time, without packing.
    config = AutoConfig.from_pretrained(tiny_base, num_labels=1)
    made_by = AutoModelForSequenceClassification._model_mapping[type(config)]
    model = load_base(tiny_base, ServingForm.NF4, model_class=made_by, config=config)
    model = PeftModel.from_pretrained(model, folder).eval()
    tokenizer = load_tokenizer(tiny_base)
    encoder, rewards = RowEncoder(tokenizer), []
    for row in PAIRS:
        found = []
        for name in ("chosen", "rejected"):
            (example,) = encoder.examples(Completion(prompt=row["prompt"], completion=row[name]))
            found.append(float(model(input_ids=torch.tensor([list(example.input_ids)])).logits))
        assert found[0] > found[1]
        rewards.append(found)
    page = Page.read(align.work / "report.html")
    said = [float(text.rpartition(" ")[2]) for text in page.inside("h4") if ": reward" in text]
    assert said == pytest.approx(rewards[0] + rewards[1], abs=0.02)  # by peft, above
    assert "graft adapters push" in page.text and '"type": "reward_model"' in page.text
    assert "graft chat" not in page.text and "not by a server" not in page.text
    # Stopped and gone on with, it is the same.
    (align.work / "checkpoint-16").rename(tmp_path / "checkpoint-16")
    again = load_file(align.execute(resume=True) / "adapter_model.safetensors")
    before = load_file(tmp_path / "checkpoint-16" / "adapter_model.safetensors")
    assert all(torch.equal(before[name], again[name]) for name in before)


def test_a_reward_model_goes_on_from_an_adapter_with_a_head_of_its_own(tiny_base: Path, tmp_path: Path) -> None:
    """As the paper has it (Ouyang et al. 2022, section 3.5)."""
    rows = [dict(row) for row in PAIRS]
    (tmp_path / "policy").mkdir()
    policy = job(tiny_base, tmp_path / "policy", rows, max_steps=4, r=4, learning_rate=1e-2).execute()
    # Steps too small for the weights' type.
    still = {"loss_type": REWARD, "max_steps": 1, "start": str(policy), "learning_rate": 1e-30}
    before = load_file(policy / "adapter_model.safetensors")
    after = load_file(job(tiny_base, tmp_path, rows, **still).execute() / "adapter_model.safetensors")
    assert sorted(after.keys() - before.keys()) == ["base_model.model.score.weight"]
    assert all(torch.equal(one, after[name]) for name, one in before.items())
    assert after["base_model.model.score.weight"].std() > 0


def test_where_rows_are_seen_again_the_reference_is_asked_before() -> None:
    assert not AlignSettings().precomputes
    assert AlignSettings(num_train_epochs=2).precomputes
    assert not AlignSettings(num_train_epochs=2, loss_type="orpo").precomputes


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"label_smoothing": 0.1}, "'label_smoothing' has no part in loss_type sigmoid"),
        ({"loss_type": "robust", "label_smoothing": 0.5}, "below 0.5"),
        ({"loss_type": "orpo", "cpo_alpha": 2.0, "simpo_gamma": 1.0}, "'simpo_gamma' .*; setting 'cpo_alpha'"),
        ({"loss_type": "kto", "per_device_train_batch_size": 1}, "must be 2 or more"),
        ({"loss_type": "dpo"}, "'sigmoid' or 'hinge'"),
        ({"loss_type": "reward", "beta": 0.5}, "'beta' has no part"),
        ({"beta": 0.0}, "above 0"),
        ({"method": "prompt_tuning"}, "puts vectors before the prompts"),
        ({"method": "pissa", "precompute_ref_log_probs": False}, "must be asked before the training"),
        ({"loss_type": "reward", "method": "ia3"}, "a reward model learns by lora"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        AlignSettings.from_mapping(settings)


def test_what_is_too_long_is_refused_before_anything_is_written(tiny_base: Path, tmp_path: Path) -> None:
    long = {"prompt": "a", "chosen": "b" * 50, "rejected": "c"}
    align = job(tiny_base, tmp_path, [PAIRS[0], long], max_length=20)
    with pytest.raises(DataError, match=r"line 2: \d+ tokens, max_length is 20"):
        align.execute()
    assert not align.work.exists()
    dropping = job(tiny_base, tmp_path, [PAIRS[0], long], max_length=20, long_rows="drop", max_steps=1)
    dropping.execute()
    page = Page.read(dropping.work / "report.html")
    assert "1 rows are dropped" in page.text and "max_length is 20" in page.text and "row 2" not in page.text


def test_the_command_says_what_is_wrong_in_one_line(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    align = job(tiny_base, tmp_path, [{"prompt": "a", "chosen": "b", "rejected": "b"}])
    given = [
        "align",
        "--base",
        str(tiny_base),
        "--data",
        str(align.data),
        "--name",
        "polite",
    ]
    assert main([*given, "--output", str(align.work)]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "line 1: chosen and rejected are equal" in told and not align.work.exists()
    for flags, way in (
        (["--method", "houlsby"], "sigmoid by houlsby on seedling: cannot be served: what it adds is no matrix"),
        (["--loss-type", "reward"], "a reward model by lora on seedling: served as it is, for graders"),
        (["--loss-type", "reward", "--method", "dora"], "a reward model by dora on seedling: no server takes it; peft"),
    ):
        assert main([*given, "--output", str(align.work), *flags]) == 2
        assert capsys.readouterr().out.startswith(way), "before it trains"


def test_a_plan_counts_two_answers_a_pair(tiny_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["align", "--base", str(tiny_base), "--plan", "--per-device-train-batch-size", "3"]) == 0
    told = capsys.readouterr().out
    assert "\n6 |" in told.replace("| 6 |", "\n6 |") and "rows are answers" in told
