"""What of a training on a task is refused, before or while its base is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from graft.adapters.base.base import Base
from graft.adapters.errors import InvalidBase
from graft.training.errors import ConfigurationError, DataError
from graft.training.tasks.record import TaskRecord
from graft.training.tasks.settings import TaskSettings
from tests.training.tasks.trainings import CHOICES, FILMS, WRITTEN, job


def test_what_chooses_weights_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="accuracy, f1, macro_f1, matthews_correlation"):
        job(tmp_path, "bert", FILMS, load_best_model_at_end=True, metric_for_best_model="bleu").execute()
    with pytest.raises(ConfigurationError, match="looks at what is held out, and nothing is: add --validation FILE"):
        TaskSettings.from_mapping({"early_stopping_patience": 2})


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


@pytest.mark.parametrize(
    "rows, settings, wrong",
    [
        ([{"text": "good", "label": []}, {"text": "bad", "label": []}], {}, "names no class in any row"),
        (FILMS, {"label_names": "neg,pos,neg"}, "'label_names' names 'neg' more than once"),
        ([{"text": "good " * 99, "label": "pos"}, FILMS[3]], {"long_rows": "drop"}, "one label only, 'neg'"),
        ([{"text": "good " * 99, "label": "so"}, *FILMS], {"long_rows": "drop"}, "some label is left in no row"),
        ([{"text": "good", "label": 1e300}, {"text": "bad", "label": 0.5}], {}, r"line 1: label 1e\+300 is beyond"),
        ([{"text": "good", "label": 10**400}, {"text": "bad", "label": 0.5}], {}, "line 1: label 1000"),
    ],
)
def test_rows_in_which_nothing_can_be_told_apart_are_refused(
    tmp_path: Path, rows: list[dict[str, Any]], settings: dict[str, Any], wrong: str
) -> None:
    training = job(tmp_path, "bert", rows, validation=None, **settings)
    with pytest.raises((ConfigurationError, DataError), match=wrong):
        training.execute()
    assert not training.work.exists()
