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
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from graft.adapters.base.base import Base
from graft.adapters.compatibility import Limits, incompatibilities
from graft.adapters.errors import InvalidBase
from graft.adapters.folder.manifest import read_manifest
from graft.adapters.folder.record import TrainedRecord
from graft.adapters.form import ServingForm
from graft.cli.main import main
from graft.training.errors import ConfigurationError, DataError
from graft.training.loop.progress import read_metrics
from graft.training.tasks.evaluation import Trained
from graft.training.tasks.job import TrainTask
from graft.training.tasks.record import TaskRecord
from graft.training.tasks.settings import TaskSettings
from tests.running import free_port
from tests.training.tasks.bases import write_base, write_rows

FILMS = [
    {"text": f"the film was {word} and {other}", "label": label}
    for word, other, label in (("good", "fine", "pos"), ("fine", "very good", "pos"), ("bad", "awful", "neg"),
                               ("awful", "very bad", "neg"), ("good", "good", "pos"), ("bad", "bad", "neg"))
]  # fmt: skip
PAIRS = [{"premise": row["text"], "hypothesis": "it was", "label": row["label"]} for row in FILMS]
TAGGED = [
    {"tokens": ["Anna", "lives", "in", "Paris"], "tags": ["B-PER", "O", "O", "B-LOC"]},
    {"tokens": ["she", "was", "Bob"], "tags": ["O", "O", "B-PER"]},
]


def question(context: str, asked: str, answer: str) -> dict[str, Any]:
    return {
        "context": context,
        "question": asked,
        "answers": {"text": [answer], "answer_start": [context.index(answer)]},
    }


ASKED = [question("Anna lives in Paris", "where is Anna", "Paris"), question("Bob was in Rome", "who was", "Bob")]
CHOICES = [
    {"prompt": "the film", "choices": ["was good", "Rome the in"], "label": 0},
    {"prompt": "she lives", "choices": ["very who", "in Paris"], "label": 1},
]
WRITTEN = [{"source": "good film", "target": "Anna"}, {"source": "bad film", "target": "Bob"}]


def job(folder: Path, kind: str, rows: list[dict[str, Any]], base: Base | None = None, **settings: Any) -> TrainTask:
    data = write_rows(folder / "rows.jsonl", rows)
    checked = {"per_device_train_batch_size": 4, "max_length": 48, "learning_rate": 3e-3, "validation": str(data)}
    return TrainTask(
        base=base or write_base(kind, folder / "base"),
        data=data,
        settings=TaskSettings.from_mapping({**checked, **settings}),
        work=folder / "run",
    )


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


def test_what_chooses_weights_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="accuracy, f1, macro_f1, matthews_correlation"):
        job(tmp_path, "bert", FILMS, load_best_model_at_end=True, metric_for_best_model="bleu").execute()
    with pytest.raises(ConfigurationError, match="looks at what is held out, and nothing is: add --validation FILE"):
        TaskSettings.from_mapping({"early_stopping_patience": 2})


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


@pytest.mark.parametrize(
    "kind, rows, settings, wrong",
    [
        ("bert", FILMS, {"lm_coef": 0.5}, "lm_coef is for decoders"),
        ("llama", FILMS, {"lm_coef": 0.5}, "lm_coef needs --method full"),
        ("bert", FILMS, {"load_in_4bit": True}, "load_in_4bit is for decoders"),
        ("bert", WRITTEN, {"task": "text2text-generation"}, "text2text-generation is for encoder-decoders"),
        ("bart", CHOICES, {"task": "multiple-choice"}, "a bart has no head for this task"),
        ("gpt2", FILMS, {"method": "lora"}, "have no linear layers for LoRA"),
        ("llama", FILMS, {"target_modules": "q_proj,score"}, "names what is no linear layer of the blocks: score"),
        ("bert", FILMS, {"dp_shard": 2}, "dp_shard"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(
    tmp_path: Path, kind: str, rows: list[dict[str, Any]], settings: dict[str, Any], wrong: str
) -> None:
    training = job(tmp_path, kind, rows, **settings)
    with pytest.raises(ConfigurationError) as caught:
        training.execute()
    assert wrong in str(caught.value) and "\n" not in str(caught.value)
    assert not training.work.exists()


def test_a_head_that_is_there_decides_the_labels(tmp_path: Path) -> None:
    first = job(tmp_path, "bert", FILMS, max_steps=1).execute()
    (tmp_path / "more").mkdir()
    again = job(tmp_path / "more", "bert", FILMS[::-1], Base.from_folder(first), max_steps=1).execute()
    assert TaskRecord.read(again).labels == ("neg", "pos")
    three = [*FILMS, {"text": "a film", "label": "so"}]
    (tmp_path / "third").mkdir()
    with pytest.raises(DataError, match=r"line 7: label 'so' is none of the 2 labels neg, pos"):
        job(tmp_path / "third", "bert", three, Base.from_folder(first), max_steps=1).execute()
    scored = [{**row, "label": number / 4} for number, row in enumerate(FILMS)]
    with pytest.raises(ConfigurationError, match="has a head for 2 labels, and the data ask for one of 1"):
        job(tmp_path / "third", "bert", scored, Base.from_folder(first), max_steps=1, method="lora").execute()
    config = json.loads((first / "config.json").read_text())
    nameless = {**config, "id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}}
    (first / "config.json").write_text(json.dumps(nameless))
    with pytest.raises(DataError, match=r"has 3 labels, and the base's head of 2 labels is for another number"):
        job(tmp_path / "third", "bert", three, Base.from_folder(first), max_steps=1).execute()


def test_broken_weights_and_another_models_are_refused(tmp_path: Path) -> None:
    training = job(tmp_path, "bert", FILMS, max_steps=1)
    file = training.base.path / "model.safetensors"
    tensors = load_file(file)
    lost = next(name for name in tensors if name.endswith("attention.self.query.weight"))
    save_file({name: one for name, one in tensors.items() if name != lost}, file, metadata={"format": "pt"})
    with pytest.raises(ConfigurationError, match=r"attention.self.query.weight and 0 more of its blocks are missing"):
        training.execute()
    tensors[lost][0, 0] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(InvalidBase, match=r"query.weight"):
        training.execute()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = write_base("bert", tmp_path / "base")
    data, output = tmp_path / "rows.tsv", tmp_path / "out"
    data.write_text("".join(f"{row['text']}\t{int(row['label'] == 'pos')}\n" for row in FILMS))
    named = ["--base", str(base.path), "--data", str(data), "--name", "n", "--output", str(output)]
    options = ["--max-steps", "30", "--learning-rate", "3e-3", "--validation", str(data), "--max-length", "32"]
    assert main(["finetune", *named, "--task", "text-classification", *options]) == 0
    told = capsys.readouterr().out
    assert f"model in {output / 'model'}" in told and "accuracy 1.0000" in told and "matthews_correlation" in told
    page = (output / "report.html").read_text()
    assert "graft evaluate heads" in page and "graft adapters push" not in page, "a server takes no encoder"
    config = tmp_path / "settings.json"
    config.write_text(json.dumps({"task": "text-classification", "data": str(data), "max_steps": 1}))
    again = ["--base", str(base.path), "--name", "n", "--output", str(tmp_path / "by-file"), "--config", str(config)]
    assert main(["finetune", *again]) == 0 and (tmp_path / "by-file/model/task.json").exists()
    capsys.readouterr()
    (tmp_path / "one.tsv").write_text("it was good\t1\n")  # no more than one class: it is only measured
    assert main(["evaluate", "heads", "--model", str(output / "model"), "--data", str(tmp_path / "one.tsv")]) == 0
    assert "accuracy 1.0000" in capsys.readouterr().out
    for flags, wrong in (
        (["--task", "text-classification", "--packing"], "'packing' has no effect with --task"),
        (["--doc-stride", "4"], "'doc_stride' is for --task"),
        (["--task", "text-classification", "--push", "here:1"], "text-classification by full on the encoder base"),
        (["--task", "sorting"], "'task' has the value 'sorting'"),
    ):
        capsys.readouterr()
        assert main(["finetune", *named[:-1], str(tmp_path / "other"), *flags]) == 2
        error = capsys.readouterr().err
        assert wrong in error and "Traceback" not in error
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "kind, task, rows, wrong",
    [
        (
            "llama",
            "text-classification",
            FILMS,
            {1000: None, 0: "heads are served by engines on CPUs", 1: "has 2 outputs; from 1 to 1 are served"},
        ),
        ("llama", "token-classification", TAGGED, {1000: "'TOKEN_CLS' tags tokens"}),
        pytest.param(
            "llama", "question-answering", ASKED, {1000: "of whole modules only a head"}, marks=pytest.mark.slow
        ),
        pytest.param(
            "bert", "text-classification", FILMS, {1000: "of whole modules only a head"}, marks=pytest.mark.slow
        ),
    ],
)
def test_a_server_takes_a_head_or_says_why_not(
    tmp_path: Path, kind: str, task: str, rows: list[dict[str, Any]], wrong: dict[int, str | None]
) -> None:
    """By how many outputs an engine computes."""
    settings = {
        "method": "lora",
        "max_steps": 1,
        "load_in_4bit": False,
        "validation": None,
        "task": task,
        "doc_stride": 4,
    }
    training = job(tmp_path, kind, rows, **settings)
    manifest = read_manifest(training.execute())
    for max_labels, expected in wrong.items():
        reasons = incompatibilities(
            manifest,
            training.base,
            Limits(max_rank=64, max_bytes=1 << 30, max_virtual_tokens=0, max_labels=max_labels),
            declared_base=training.base.identity,
            form=ServingForm.BF16,
            serving_form=ServingForm.BF16,
            allow_noop=True,
        )
        of_head = [str(one) for one in reasons if "linear module" not in one.problem]
        assert len(of_head) == (expected is not None) and (expected is None or expected in of_head[0]), reasons
        assert all("\n" not in str(one) for one in reasons)
    page = (training.work / "report.html").read_text()
    assert ("graft adapters push" in page and "graft classify" in page) == (None in wrong.values())
    assert (manifest.num_labels == 2) == ("task.json" in {file.name for file in manifest.files})
    assert manifest.num_labels == (2 if task == "text-classification" else 0)


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
