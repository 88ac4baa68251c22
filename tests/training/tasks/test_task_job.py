"""Trainings on tasks: what comes out is what Hugging Face and peft load, resumed or not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import (
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from graft.adapters.base.base import Base
from graft.adapters.folder.record import TrainedRecord
from graft.adapters.form import ServingForm
from graft.cli.main import main
from graft.training.loop.progress import read_metrics
from graft.training.tasks.evaluation import Trained
from graft.training.tasks.record import TaskRecord
from tests.running import free_port
from tests.training.tasks.bases import write_base, write_rows
from tests.training.tasks.trainings import ASKED, CHOICES, FILMS, PAIRS, TAGGED, WRITTEN, job


@pytest.mark.parametrize(
    "kind, task, rows, auto, measure",
    [
        ("bert", "text-classification", FILMS, AutoModelForSequenceClassification, "accuracy"),
        pytest.param(
            "roberta",
            "text-classification",
            PAIRS,
            AutoModelForSequenceClassification,
            "accuracy",
            marks=pytest.mark.slow,
        ),
        ("bart", "text-classification", FILMS, AutoModelForSequenceClassification, "accuracy"),
        pytest.param(
            "gpt2", "text-classification", PAIRS, AutoModelForSequenceClassification, "accuracy", marks=pytest.mark.slow
        ),
        ("bert", "token-classification", TAGGED, AutoModelForTokenClassification, "f1"),
        pytest.param(
            "albert", "question-answering", ASKED, AutoModelForQuestionAnswering, "exact_match", marks=pytest.mark.slow
        ),
        ("llama", "question-answering", ASKED, AutoModelForQuestionAnswering, "exact_match"),
        ("bert", "multiple-choice", CHOICES, AutoModelForMultipleChoice, "accuracy"),
        ("t5", "text2text-generation", WRITTEN, AutoModelForSeq2SeqLM, "exact_match"),
    ],
)
def test_a_whole_model_is_what_hugging_face_loads(
    tmp_path: Path, kind: str, task: str, rows: list[dict[str, Any]], auto: Any, measure: str
) -> None:
    settings = {"task": task, "method": "full", "max_steps": 25, "doc_stride": 4, "max_target_length": 6}
    training = job(tmp_path, kind, rows, **settings)
    folder = training.execute()
    found = TaskRecord.read(folder).metrics
    assert folder.name == "model" and found[measure] == 1.0
    measured = {f"validation_{name}": value for name, value in found.items()}
    assert measured.items() <= read_metrics(training.work)[-1].items()
    model, info = auto.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    record = TaskRecord.read(folder)
    assert record.settings["task"] == task and record.base_digest == training.base.digest
    if task == "text-classification" and "text" in rows[0]:
        logits = model(**tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")).logits
        assert [model.config.id2label[one] for one in logits.argmax(1).tolist()] == [row["label"] for row in rows]
    if task == "text2text-generation":
        ids = model.generate(**tokenizer("bad film", return_tensors="pt"), max_new_tokens=6)
        assert tokenizer.decode(ids[0], skip_special_tokens=True).strip() == "Bob"


@pytest.mark.parametrize(
    "task, rows, form",
    [
        ("token-classification", TAGGED, None),
        ("token-classification", TAGGED, "nf4"),
        ("token-classification", TAGGED, "int8"),
        ("question-answering", ASKED, None),
    ],
)
def test_a_head_with_a_bias_stands_beside_a_quantized_base_as_it_is(
    tmp_path: Path, task: str, rows: list[dict[str, Any]], form: str | None
) -> None:
    """By default a decoder is held in NF4, brought there or as ``graft quantize`` wrote it; its head never is."""
    base = write_base("llama", tmp_path / "base")
    if form is not None:
        assert main(["quantize", str(base.path), "--form", form, "--output", str(tmp_path / form)]) == 0
        base = Base.from_folder(tmp_path / form)
    training = job(tmp_path, "llama", rows, base, task=task, doc_stride=8, max_steps=4)
    folder = training.execute()
    trained, record = TrainedRecord.read(folder), TaskRecord.read(folder)
    assert trained is not None and trained.form is ServingForm(form or "nf4")
    losses = [row["loss"] for row in read_metrics(training.work)]
    assert losses[-1] < losses[0]
    measured = Trained.of(folder, base).measure(training.data)
    assert measured["loss"] == pytest.approx(record.metrics["loss"], abs=1e-3)


@pytest.mark.parametrize("kind", ["bert", "llama", pytest.param("bart", marks=pytest.mark.slow)])
def test_an_adapter_carries_its_head(tmp_path: Path, kind: str) -> None:
    """peft loads it onto the base with a new head, and gets what the training measured."""
    training = job(tmp_path, kind, FILMS, method="lora", max_steps=25, learning_rate=1e-2, load_in_4bit=False)
    folder = training.execute()
    assert folder.name == "adapter" and TaskRecord.read(folder).metrics["accuracy"] == 1.0
    assert {one.name for one in folder.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "graft.json", "task.json"
    }  # fmt: skip
    config, tensors = (
        json.loads((folder / "adapter_config.json").read_text()),
        load_file(folder / "adapter_model.safetensors"),
    )
    heads = {name for name in tensors if "lora_" not in name}
    own, paths = {
        "llama": ("score", ["score"]),
        "bert": ("classifier", ["classifier", "bert.pooler.dense"]),
        "bart": ("classification_head", ["classification_head.dense", "classification_head.out_proj"]),
    }[kind]  # what the base's folder had none of
    assert config["task_type"] == "SEQ_CLS" and own in config["modules_to_save"]
    parts = ["weight"] if kind == "llama" else ["weight", "bias"]
    assert heads == {f"base_model.model.{path}.{part}" for path in paths for part in parts}
    assert kind != "llama" or set(config["modules_to_save"]) <= {"score", "classifier"}  # all that an engine knows of
    record, trained = TaskRecord.read(folder), TrainedRecord.read(folder)
    assert record.labels == ("neg", "pos") and trained is not None and trained.form is ServingForm.BF16
    torch.manual_seed(7)  # another head's first numbers
    plain = AutoModelForSequenceClassification.from_pretrained(training.base.path, num_labels=2, dtype=torch.bfloat16)
    plain.config.pad_token_id = 1
    model = PeftModel.from_pretrained(plain, folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(training.base.path)
    for row in FILMS:
        ids = tokenizer(row["text"])["input_ids"]
        ids = ids if kind == "llama" else [0, *ids, 2]
        logits = model(input_ids=torch.tensor([ids])).logits
        assert record.labels[int(logits.argmax())] == row["label"]


@pytest.mark.parametrize(
    "kind, settings",
    [
        ("bert", {"method": "full"}),
        ("llama", {"method": "lora", "lora_dropout": 0.1}),  # in NF4
        ("gpt2", {"method": "full", "delimiter_tokens": True, "lm_coef": 0.5}),
    ],
)
def test_a_training_that_was_killed_gives_the_same_files(tmp_path: Path, kind: str, settings: dict[str, Any]) -> None:
    """From a checkpoint on, dropout and order included."""
    options = {"max_steps": 6, "save_steps": 3, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}
    wide = {"hidden_size": 128, "intermediate_size": 128} if kind == "llama" else {}
    base = write_base(kind, tmp_path / "base", **wide)
    folders = []
    for name in ("once", "again"):
        (tmp_path / name).mkdir()
        folders.append(job(tmp_path / name, kind, FILMS, base, **options, **settings).execute())
    for lost in ("checkpoint-6", folders[1].name):
        (tmp_path / "again/run" / lost).rename(tmp_path / lost)
    folders.append(job(tmp_path / "again", kind, FILMS, base, **options, **settings).execute(resume=True))
    files = [next(iter(folder.glob("*.safetensors"))) for folder in (folders[0], folders[2])]
    first, last = map(load_file, files)
    assert first.keys() == last.keys() and all(torch.equal(first[name], last[name]) for name in first)
    assert [row["step"] for row in read_metrics(tmp_path / "again/run")] == list(range(6))


def test_it_ends_with_the_weights_of_its_best_measure(tmp_path: Path) -> None:
    """What is held out says the opposite of a third of what is learned, so that soon nothing gets better."""
    opposite = {"pos": "neg", "neg": "pos"}
    other = [{**row, "label": opposite[row["label"]]} for row in FILMS[1:3]] + FILMS[2:]
    held_out = str(write_rows(tmp_path / "held.jsonl", other))
    options = {"metric_for_best_model": "accuracy", "load_best_model_at_end": True, "early_stopping_patience": 16}
    steps = {"eval_steps": 1, "save_total_limit": 1, "max_steps": 60}
    training = job(tmp_path, "bert", FILMS, validation=held_out, **steps, **options)
    folder = training.execute()
    found = [row["validation_accuracy"] for row in read_metrics(training.work)]
    best = max(found)
    assert min(found) < best and len(found) == found.index(best) + 1 + 16 < 60
    measured = Trained.of(folder, None).measure(Path(held_out))
    assert measured["accuracy"] == best == TaskRecord.read(folder).metrics["accuracy"]
    assert TaskRecord.read(folder).metrics["loss"] == pytest.approx(measured["loss"], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bart", "t5"])
def test_lora_teaches_a_trained_base_other_texts(tmp_path: Path, kind: str) -> None:
    """New weights will not do for BART: its logits are a norm's output times embeddings that LoRA leaves alone, and
    with those 0.02 wide none is above another by more than 8 · 2 · 0.16, whatever is learned.
    """
    texts = {"task": "text2text-generation", "max_target_length": 6, "eval_steps": 1000}
    first = job(tmp_path, kind, WRITTEN, method="full", max_steps=80, **texts).execute()
    assert TaskRecord.read(first).metrics["exact_match"] == 1.0
    (tmp_path / "other").mkdir()
    base, swapped = Base.from_folder(first), [{**WRITTEN[0], "target": "Bob"}, {**WRITTEN[1], "target": "Anna"}]
    options = {"method": "lora", "learning_rate": 1e-2, "max_steps": 80, **texts}
    folder = job(tmp_path / "other", kind, swapped, base, **options).execute()
    assert TaskRecord.read(folder).metrics["exact_match"] == 1.0
    plain = AutoModelForSeq2SeqLM.from_pretrained(first, dtype=torch.bfloat16)
    model, tokenizer = PeftModel.from_pretrained(plain, folder).eval(), AutoTokenizer.from_pretrained(first)
    ids = model.generate(**tokenizer("bad film", return_tensors="pt"), max_new_tokens=6)
    assert tokenizer.decode(ids[0], skip_special_tokens=True).strip() == "Anna"


def test_next_tokens_are_learned_beside_a_class(tmp_path: Path) -> None:
    training = job(
        tmp_path, "gpt2", PAIRS, method="full", delimiter_tokens=True, lm_coef=0.5, max_steps=20, validation=None
    )
    folder = training.execute()
    rows = read_metrics(training.work)
    assert rows[-1]["loss_tokens"] < rows[0]["loss_tokens"] and rows[-1]["loss_label"] < rows[0]["loss_label"]
    assert rows[0]["loss"] == pytest.approx(rows[0]["loss_label"] + 0.5 * rows[0]["loss_tokens"], rel=1e-5)
    model, tokenizer = (one.from_pretrained(folder) for one in (AutoModelForSequenceClassification, AutoTokenizer))
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer) == training.base.vocab_size + 3


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    base = write_base("bert", tmp_path / "base", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    data = write_rows(tmp_path / "rows.jsonl", FILMS)
    options = [
        "finetune",
        "--task",
        "text-classification",
        "--base",
        str(base.path),
        "--data",
        str(data),
        "--name",
        "n",
    ]
    options += ["--dtype", "float32", "--max-steps", "6", "--max-length", "32", "--per-device-train-batch-size", "3"]
    assert main([*options, "--output", str(tmp_path / "one"), "--gradient-accumulation-steps", "2"]) == 0
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        str(free_port()),
    ]
    two = ["-m", "graft.cli.main", *options, "--output", str(tmp_path / "two"), "--dp-replicate", "2"]
    subprocess.run([*launcher, *two], check=True, capture_output=True, timeout=300)
    first, second = (load_file(tmp_path / name / "model/model.safetensors") for name in ("one", "two"))
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)
