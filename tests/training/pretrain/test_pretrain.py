"""`graft pretrain` on text: what it leaves, how it goes on, and what it refuses before anything is written."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer

from graft.adapters.base.base import find_base
from graft.cli.main import main
from graft.training.corpus.byte_pairs import train_tokenizer
from graft.training.errors import CheckpointError, ConfigurationError, DataError
from graft.training.job.folder import JobFolder
from graft.training.loop.checkpoint import complete_checkpoints
from graft.training.loop.progress import METRICS
from graft.training.model.family import FAMILIES, Family, trainable
from graft.training.objective.span_corruption import num_sentinels
from tests.training.pretrain.making import ALONE, job, weights


def test_a_base_with_its_tokenizer_its_origin_and_its_measure(text: Path, tmp_path: Path) -> None:
    metrics = job(tmp_path, text, validation=str(text), eval_steps=3).execute(ALONE, resume=False)
    assert set(metrics) >= {"validation_perplexity", "unigram_perplexity", "trigram_perplexity"}
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype="auto")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    assert model.dtype == torch.bfloat16 and model.config.vocab_size == len(tokenizer) <= 384
    sample = "abcd  é\n efgh"
    assert tokenizer.decode(tokenizer(sample, add_special_tokens=False)["input_ids"]) == sample
    origin = json.loads((tmp_path / "base" / "training.json").read_text())
    assert origin["settings"]["max_steps"] == 6 and origin["data"][0]["digest"].startswith("sha256:")
    lines = [json.loads(line) for line in (tmp_path / "work" / METRICS).read_text().splitlines()]
    assert ["validation_loss" in line for line in lines] == [False, False, True] * 2
    assert "trained by `graft pretrain`" in (tmp_path / "base" / "README.md").read_text()
    page = (tmp_path / "work" / "report.html").read_text()
    for told in (
        "held out",
        "trigram_perplexity",
        origin["data"][0]["digest"],
        f"graft serve --base {tmp_path / 'base'}",
    ):
        assert told in page, told


@pytest.mark.parametrize(
    ("family", "kind", "options"),
    [
        ("bert", AutoModelForMaskedLM, {"whole_word_masking": True}),
        ("electra", AutoModelForMaskedLM, {"objective": "masked"}),
        ("t5", AutoModelForSeq2SeqLM, {"vocab_size": 420}),
        ("bart", AutoModelForSeq2SeqLM, {}),
        ("mixtral", AutoModelForCausalLM, {"num_local_experts": 2, "sliding_window": 8}),
        ("gpt2", AutoModelForCausalLM, {"dropout": 0.1, "gradient_checkpointing": True, "objective": "prefix"}),
    ],
)
def test_families_and_objectives(family: str, kind: Any, options: dict[str, Any], text: Path, tmp_path: Path) -> None:
    metrics = job(tmp_path, text, family=family, validation=str(text), **options).execute(ALONE, resume=False)
    assert metrics["validation_loss"] < 10
    assert weights(tmp_path / "base", kind)


@pytest.mark.parametrize(
    "options",
    [
        {"optim": "adamw_8bit"},
        {"optim": "muon"},
        {"ema_decay": 0.9, "batch_warmup_steps": 3, "gradient_accumulation_steps": 3},
        {"z_loss": 1e-3, "lr_scheduler_type": "wsd"},
        {"gradient_checkpointing": True, "dtype": "float32"},
        {"gradient_checkpointing": "selective", "gradient_accumulation_steps": 2},
    ],
    ids=lambda options: next(iter(options)),
)
def test_stopped_and_resumed_is_the_same_to_the_bit(options: dict[str, Any], text: Path, tmp_path: Path) -> None:
    whole = job(tmp_path / "whole", text, save_steps=3, **options)
    whole.execute(ALONE, resume=False)
    parts = job(tmp_path / "parts", text, save_steps=3, **options)
    parts.execute(ALONE, resume=False)
    (parts.work / "checkpoint-6" / "COMPLETE").unlink()  # as if it had been killed after step 3
    parts.execute(ALONE, resume=True)
    expected, found = weights(whole.output), weights(parts.output)
    assert all(torch.equal(found[name], one) for name, one in expected.items())


def test_the_running_mean_is_what_is_exported(text: Path, tmp_path: Path) -> None:
    job(tmp_path / "plain", text).execute(ALONE, resume=False)
    job(tmp_path / "mean", text, ema_decay=0.99).execute(ALONE, resume=False)
    plain, mean = weights(tmp_path / "plain" / "base"), weights(tmp_path / "mean" / "base")
    assert not torch.equal(plain["lm_head.weight"], mean["lm_head.weight"])


def test_a_model_goes_on_from_where_it_was(text: Path, tmp_path: Path) -> None:
    first = job(tmp_path / "first", text, max_steps=30, learning_rate=5e-3, validation=str(text))
    before = first.execute(ALONE, resume=False)
    second = job(tmp_path / "second", text, model=str(first.output), learning_rate=1e-4, validation=str(text))
    after = second.execute(ALONE, resume=False)
    assert after["validation_loss"] < before["validation_loss"] + 0.1


@pytest.mark.parametrize("attention", ["varlen", "eager", "sdpa"])
def test_every_attention_learns_the_same(attention: str, text: Path, tmp_path: Path) -> None:
    """With windows narrower than rows, in float32."""
    options: dict[str, Any] = {"family": "mistral", "sliding_window": 6, "dtype": "float32", "validation": str(text)}
    expected, found = (
        job(tmp_path / wanted, text, attn_implementation=wanted, **options) for wanted in ("auto", attention)
    )
    losses = [one.execute(ALONE, resume=False)["validation_loss"] for one in (expected, found)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    learned, its = weights(found.output), weights(expected.output)
    off = sum((learned[name].float() - its[name].float()).square().sum() for name in its)
    assert off <= 1e-4 * sum(one.float().square().sum() for one in its.values())


@pytest.mark.parametrize(("family", "student"), [("llama", "llama"), ("bert", "distilbert")])
def test_a_student_learns_from_its_teacher(family: str, student: str, text: Path, tmp_path: Path) -> None:
    teacher = job(tmp_path / "teacher", text, family=family, max_steps=40, learning_rate=5e-3)
    teacher.execute(ALONE, resume=False)
    small = job(tmp_path / "student", text, family=student, teacher=str(teacher.output), num_hidden_layers=1)
    small.execute(ALONE, resume=False)
    lines = [json.loads(line) for line in (tmp_path / "student" / "work" / METRICS).read_text().splitlines()]
    assert lines[-1]["loss_soft"] < lines[0]["loss_soft"]
    with pytest.raises(ConfigurationError, match="a teacher can teach causal and masked where"):
        job(tmp_path / "no", text, family="bart", teacher=str(teacher.output)).execute(ALONE, resume=False)


@pytest.mark.parametrize("family", trainable())
def test_every_family_trains_with_its_defaults(family: str, text: Path, tmp_path: Path) -> None:
    sentinels = {"vocab_size": 420} if family == "t5" else {}
    metrics = job(tmp_path, text, family=family, max_steps=1, **sentinels).execute(ALONE, resume=False)
    assert 0 < metrics["loss"] < 60


def test_an_architecture_is_a_row(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Family(name="granite", model_type="granite", kind="decoder", objectives=("causal",))
    monkeypatch.setitem(FAMILIES, "granite", row)
    metrics = job(tmp_path, text, family="granite", max_steps=1, hidden_size=64).execute(ALONE, resume=False)
    assert 0 < metrics["loss"] < 60
    assert json.loads((tmp_path / "base" / "config.json").read_text())["architectures"] == ["GraniteForCausalLM"]
    again = job(tmp_path / "again", text, model=str(tmp_path / "base"), max_steps=1)
    assert again.execute(ALONE, resume=False)["loss"] == pytest.approx(metrics["loss"], rel=0.05)


def test_what_changes_nothing_is_said(text: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    job(tmp_path, text, family="bert", z_loss=0.1, sliding_window=4, eval_steps=3, max_steps=1).execute(
        ALONE, resume=False
    )
    told = [record.getMessage() for record in caplog.records if record.name.startswith("graft")]
    idle = [f"{name} has no effect here" for name in ("z_loss", "eval_steps", "sliding_window")]
    assert told[0].startswith("the text makes a vocabulary of") and told[1:] == idle


def test_a_teacher_of_another_size_is_refused(text: Path, tmp_path: Path) -> None:
    teacher = job(tmp_path / "teacher", text, family="bert", max_steps=1)
    teacher.execute(ALONE, resume=False)
    with pytest.raises(ConfigurationError, match="is 32 wide and the student 64"):
        job(tmp_path / "no", text, family="bert", teacher=str(teacher.output), hidden_size=64).execute(
            ALONE, resume=False
        )
    with pytest.raises(ConfigurationError, match=r"max_length is 64, and the teacher .* has 32 positions"):
        job(tmp_path / "no", text, family="bert", teacher=str(teacher.output), max_length=64).execute(
            ALONE, resume=False
        )


def test_a_tokenizer_that_does_not_fit_the_model(text: Path, tmp_path: Path) -> None:
    first = job(tmp_path / "first", text)
    first.execute(ALONE, resume=False)
    large = train_tokenizer(["some text"] * 3, vocab_size=420, context_tokens=32, num_sentinels=num_sentinels(32))
    large.add_tokens([f"token{number}" for number in range(60)])
    large.save_pretrained(tmp_path / "large")
    with pytest.raises(ConfigurationError, match=r"does not fit the model .*ids up to 4\d\d, .*embeddings for 3\d\d"):
        job(tmp_path / "no", text, model=str(first.output), tokenizer=str(tmp_path / "large")).execute(
            ALONE, resume=False
        )
    other = train_tokenizer(["other words"] * 9, vocab_size=300, context_tokens=32)
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(ConfigurationError, match="whose own gives other ids to the same text"):
        job(tmp_path / "no", text, model=str(first.output), tokenizer=str(tmp_path / "other")).execute(
            ALONE, resume=False
        )
    with pytest.raises(ConfigurationError, match="is a llama, no bert"):
        job(tmp_path / "no", text, model=str(first.output), family="bert").execute(ALONE, resume=False)
    with pytest.raises(ConfigurationError, match=r"max_length is 64, and the model .* has 32 positions"):
        job(tmp_path / "no", text, model=str(first.output), max_length=64).execute(ALONE, resume=False)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"text": ()}, ConfigurationError, "no text to train on"),
        ({"family": "oak"}, ConfigurationError, "unknown family 'oak'"),
        ({"family": "bert", "objective": "causal"}, ConfigurationError, "bert cannot be trained with 'causal'"),
        ({"vocab_size": 100}, ConfigurationError, "vocab_size is 100; bytes and special tokens alone are 262"),
        ({"tokenizer": "/nowhere"}, ConfigurationError, "there is no folder /nowhere"),
        ({"model": "/nowhere"}, ConfigurationError, "there is no folder /nowhere"),
        ({"seed": 10**30}, ConfigurationError, "seed"),
        ({"validation": "/nowhere"}, DataError, "/nowhere cannot be read"),
        ({"dp_replicate": 3}, ConfigurationError, "dp_replicate 3 asks for 3 processes, and there are 1"),
        ({"cpu_offload": True}, ConfigurationError, "cpu_offload needs weights that are sharded"),
        ({"sync_each_batch": True}, ConfigurationError, "sync_each_batch is for weights that are sharded"),
        ({"float8": True}, ConfigurationError, "float8 needs a GPU, and this training computes on a CPU"),
        ({"hidden_size": 33}, ConfigurationError, "a width of 33 cannot be split among 2 heads"),
        ({"per_device_train_batch_size": 4000}, DataError, "give more text"),
        ({"family": "xlnet", "dtype": "bfloat16"}, ConfigurationError, "xlnet computes in float32 only"),
        ({"hidden_size": 6}, ConfigurationError, "2 heads of 3 cannot turn in pairs"),
        (
            {"family": "mistral", "objective": "prefix", "sliding_window": 8},
            ConfigurationError,
            "goes with 'causal' only",
        ),
        ({"dropout": 0.1}, ConfigurationError, "llama has no dropout but attention's"),
        ({"attn_implementation": "quick"}, ConfigurationError, "attn_implementation"),
        ({"attn_implementation": "flash_attention_2"}, ConfigurationError, "flash-attn is not installed; take varlen"),
        ({"attn_implementation": "flex_attention"}, ConfigurationError, "no backward pass of it for this device"),
        ({"attn_implementation": "varlen", "family": "bert"}, ConfigurationError, "rows of whole documents only"),
    ],
)
def test_what_is_refused_leaves_nothing(
    settings: dict[str, Any], error: type[Exception], message: str, text: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        job(tmp_path, text, **settings).execute(ALONE, resume=False)
    assert not list(tmp_path.iterdir())


def test_nothing_of_anybodys_is_written_over(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = job(tmp_path, text)
    own = text.parent / "copy.jsonl"
    own.write_bytes(text.read_bytes())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    for output, message in (
        (own, "is a file"),
        (text.parent, "would take the place of"),
        (first.work.parent, "would take the place of"),
        (first.work, "would take the place of"),
        (tmp_path / "full", r"holds what is no base's \(thesis.txt\)"),
        (Path(), "is no folder's name"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            dataclasses.replace(first, output=output).execute(ALONE, resume=False)
    assert (tmp_path / "full" / "thesis.txt").read_text() == "precious" and not first.work.exists()
    first.execute(ALONE, resume=False)
    before = (first.output / "model.safetensors").read_bytes()
    other = dataclasses.replace(first.settings, seed=3)
    for resume, again in (
        (False, dataclasses.replace(first, work=tmp_path / "work2")),
        (True, dataclasses.replace(first, work=tmp_path / "work2", settings=other)),
    ):
        with pytest.raises(ConfigurationError, match="holds a finished base that is not this training's: choose"):
            again.execute(ALONE, resume=resume)
        assert not again.work.exists() and (first.output / "model.safetensors").read_bytes() == before
    first.execute(ALONE, resume=True)  # its own, again
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "abcd", "completion": "efgh"}\n')
    command = ["finetune", "--base", str(first.output), "--data", str(rows), "--name", "one", "--output"]
    assert main([*command, str(first.output)]) == 2
    assert "holds what is no fine-tuning's (config.json)" in capsys.readouterr().err
    assert main([*command, str(rows)]) == 2
    assert "is a file" in capsys.readouterr().err


def test_one_training_works_in_a_folder_at_a_time(text: Path, tmp_path: Path) -> None:
    one = job(tmp_path, text)
    with one.folder.held(), pytest.raises(CheckpointError, match=r"another training works in .*/work"):
        one.execute(ALONE, resume=False)
    one.execute(ALONE, resume=False)


@pytest.mark.parametrize("resume", [False, True])
def test_what_another_training_took_meanwhile_stays(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resume: bool
) -> None:
    """It works there after the folder was looked at, and ends before it is held."""
    other, mine = job(tmp_path, text), job(tmp_path, text, learning_rate=0.1)

    held = JobFolder.held

    @contextlib.contextmanager
    def held_late(folder: JobFolder) -> Iterator[None]:
        monkeypatch.setattr(JobFolder, "held", held)
        other.execute(ALONE, resume=False)
        with held(folder):
            yield

    monkeypatch.setattr(JobFolder, "held", held_late)
    with pytest.raises(CheckpointError, match=r"checkpoints of an(other| earlier)"):
        mine.execute(ALONE, resume=resume)
    assert complete_checkpoints(mine.work)[-1].name == "checkpoint-6"


@pytest.mark.parametrize("damaged", ["state/.metadata", "state/__0_0.distcp", "state.json"])
def test_a_damaged_checkpoint_is_passed_over(
    damaged: str, text: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = job(tmp_path, text, save_steps=3)
    one.execute(ALONE, resume=False)
    expected = weights(one.output)
    path = one.work / "checkpoint-6" / damaged
    path.write_bytes(path.read_bytes()[:40] if damaged.endswith("distcp") else b"")
    one.execute(ALONE, resume=True)
    (told,) = [one.getMessage() for one in caplog.records if "checkpoint-6 is damaged" in one.getMessage()]
    assert told.endswith(". Going on from the checkpoint before it.") and told.count("before it") == 1
    assert ": ." not in told
    found = weights(one.output)
    assert all(torch.equal(found[name], one_weight) for name, one_weight in expected.items())


def test_an_adapter_is_trained_on_what_was_made(text: Path, tmp_path: Path) -> None:
    job(tmp_path, text, max_length=128, hidden_size=64).execute(ALONE, resume=False)
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "abcd", "completion": "efgh"}\n' * 4)
    common = ["finetune", "--base", str(tmp_path / "base"), "--data", str(rows), "--name", "one", "--max-steps", "2"]
    assert main([*common, "--max-length", "128", "--output", str(tmp_path / "adapter")]) == 0
    assert (tmp_path / "adapter" / "adapter" / "adapter_model.safetensors").exists()


def test_another_training_is_not_continued(text: Path, tmp_path: Path) -> None:
    first = job(tmp_path, text)
    first.execute(ALONE, resume=False)
    with pytest.raises(CheckpointError, match="add --resume"):
        first.execute(ALONE, resume=False)
    other = dataclasses.replace(first, settings=dataclasses.replace(first.settings, learning_rate=1.0, seed=3))
    with pytest.raises(CheckpointError, match=r"learning_rate was 0\.001 and is 1\.0; .*|seed was 0 and is 3"):
        other.execute(ALONE, resume=True)
    words = train_tokenizer(["other words here"] * 3, vocab_size=384, context_tokens=32)
    words.save_pretrained(tmp_path / "tokenizer")
    other = dataclasses.replace(
        first, settings=dataclasses.replace(first.settings, tokenizer=str(tmp_path / "tokenizer"))
    )
    with pytest.raises(CheckpointError, match="tokenizer was"):
        other.execute(ALONE, resume=True)
    (first.work / "job.json").write_text("")
    with pytest.raises(CheckpointError, match="checkpoints of an unknown training"):
        first.execute(ALONE, resume=True)
    assert len(complete_checkpoints(first.work)) == 1


def test_the_command_plans_trains_and_says_what_is_wrong(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["pretrain", "--text", str(text), "--output", str(tmp_path / "base"), "--work", str(tmp_path / "work")]
    small = ["--hidden-size", "32", "--num-attention-heads", "2", "--vocab-size", "300", "--max-length", "32"]
    assert main([*common, *small, "--plan", "--devices", "4", "--memory", "80G"]) == 0
    planned = capsys.readouterr().out
    assert "M parameters" in planned and "| 1 | 1 | 4 | 1 | 1 | 3 |" in planned and not (tmp_path / "work").exists()
    assert main([*common, *small, "--max-steps", "2"]) == 0
    told = capsys.readouterr().out
    assert "base in" in told and "| GPUs | TP | CP | PP | DP |" in told and "| 1 | 1 | 1 | 1 | 1 | 32 | 16 |" in told
    assert main([*common, *small, "--max-steps", "2"]) == 2
    assert "add --resume" in capsys.readouterr().err
    assert main([*common, "--learning-rate", "fast"]) == 2
    assert "'fast'; it must be of type float" in capsys.readouterr().err
    assert main([*common, "--num-train-epochs", "1e308"]) == 2
    assert "at most a million" in capsys.readouterr().err
    huge = ["--work", str(tmp_path / "huge"), "--output", str(tmp_path / "no"), "--hidden-size", "100000000"]
    before = resource.getrlimit(resource.RLIMIT_AS)  # on a large machine it would begin
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + (8 << 30), before[1]))
    try:
        assert main([*common, *small[2:], *huge]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    line = capsys.readouterr().err.splitlines()[-1]
    assert "memory does not suffice for a model of" in line and "parameters" in line and "--plan" in line
    assert main([*common, "--devices", "2"]) == 2
    assert "--devices is for --plan" in capsys.readouterr().err
    assert main([*common, "--push", "nonsense"]) == 2
    assert "'nonsense' is no HOST:PORT" in capsys.readouterr().err
    recipe = ["pretrain", "--recipe", "rootstock-5m", "--output"]
    assert main([*recipe, str(tmp_path / "base"), "--plan"]) == 2
    assert "holds a finished base that is not this training's" in capsys.readouterr().err
    assert main([*recipe, str(find_base("rootstock-5m")), "--plan"]) == 0
    assert main([*common, "--output", str(tmp_path / "none"), "--recipe", "rootstock-5m"]) == 2
    assert "leave out text" in capsys.readouterr().err


@pytest.mark.slow
def test_compiled_blocks_compute_the_same(text: Path, tmp_path: Path) -> None:
    for name, compiled in (("plain", False), ("compiled", True)):
        job(tmp_path / name, text, torch_compile=compiled, dtype="float32").execute(ALONE, resume=False)
    plain, compiled_weights = weights(tmp_path / "plain" / "base"), weights(tmp_path / "compiled" / "base")
    assert plain.keys() == compiled_weights.keys()
    assert all(torch.allclose(compiled_weights[name], one, atol=1e-4) for name, one in plain.items())
