"""A fine-tuning that follows a teacher: what it learns, that it goes on as if never ended, and who cannot teach it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from graft.adapters.base.base import Base
from graft.adapters.errors import InvalidBase, NotFound
from graft.adapters.form import ServingForm
from graft.training.errors import CheckpointError, ConfigurationError
from graft.training.finetune.job import Finetune
from graft.training.finetune.settings import FinetuneSettings
from graft.training.job.export import write_base
from graft.training.loop.progress import read_metrics
from graft.training.model.loading import load_base, load_tokenizer
from graft.training.rootstock.recipe import llama_config
from tests.cases.harness.bases import change_weights

ROWS = [{"prompt": f"{word} -> ", "completion": word.upper()} for word in ("ant", "bee", "cat", "dog")]
FEW = {"per_device_train_batch_size": 4, "learning_rate": 0.01, "report_examples": 0, "r": 8, "load_in_4bit": False}


def job(base: Path, folder: Path, name: str = "run", **settings: object) -> Finetune:
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    checked = FinetuneSettings.from_mapping({**FEW, **settings})
    return Finetune(base=Base.from_folder(base), data=data, settings=checked, work=folder / name)


@pytest.fixture(scope="module")
def teacher(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The base with an adapter that has learned other answers by heart."""
    folder = tmp_path_factory.mktemp("teacher")
    return f"{tiny_base},{job(tiny_base, folder, max_steps=20, seed=7).execute()}"


def answers(base: Path, adapter: str | Path | None) -> Tensor:
    """log p of every token behind a prompt. Shape: (L, V)."""
    model = load_base(base, ServingForm.BF16)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter)).eval()
    ids = load_tokenizer(base)("bee -> BEE", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return model(ids).logits[0, 6:].float().log_softmax(-1)


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_it_comes_to_say_what_the_teacher_says(beta: float, teacher: str, tiny_base: Path, tmp_path: Path) -> None:
    """From the teacher alone, without the rows' own tokens."""
    wanted = {"teacher": teacher, "distillation_weight": 1.0, "distillation_beta": beta}
    adapter = job(tiny_base, tmp_path, max_steps=30, distillation_temperature=1.0, **wanted).execute()
    its = answers(tiny_base, teacher.partition(",")[2])
    before, after = (float((its.exp() * (its - answers(tiny_base, one))).sum(-1).mean()) for one in (None, adapter))
    assert after < 0.3 * before
    first, *_, last = read_metrics(tmp_path / "run")
    assert last["loss"] < 0.3 * first["loss"]


def test_the_first_loss_is_the_weighted_mean_of_both_parts(teacher: str, tiny_base: Path, tmp_path: Path) -> None:
    """A new adapter changes nothing yet: the student is the bare base."""
    job(tiny_base, tmp_path, "taught", max_steps=1, teacher=teacher, distillation_weight=0.25).execute()
    job(tiny_base, tmp_path, "alone", max_steps=1).execute()
    taught, alone = (read_metrics(tmp_path / name)[0]["loss"] for name in ("taught", "alone"))
    job(tiny_base, tmp_path, "followed", max_steps=1, teacher=teacher, distillation_weight=1.0).execute()
    followed = read_metrics(tmp_path / "followed")[0]["loss"]
    assert taught == pytest.approx(0.25 * followed + 0.75 * alone, rel=1e-4)


def test_the_same_comes_out_resumed_or_not(teacher: str, tiny_base: Path, tmp_path: Path) -> None:
    options = {"max_steps": 4, "save_steps": 2, "teacher": teacher, "lora_dropout": 0.1}
    whole = job(tiny_base, tmp_path, "whole", **options)
    expected = (whole.execute() / "adapter_model.safetensors").read_bytes()
    (whole.work / "checkpoint-4" / "COMPLETE").unlink()
    (whole.work / "adapter" / "adapter_model.safetensors").unlink()
    assert (whole.execute(resume=True) / "adapter_model.safetensors").read_bytes() == expected


def test_another_teacher_is_another_training(teacher: str, tiny_base: Path, tmp_path: Path) -> None:
    job(tiny_base, tmp_path, max_steps=1, teacher=teacher).execute()
    with pytest.raises(CheckpointError, match="teacher was"):
        job(tiny_base, tmp_path, max_steps=1, teacher=str(tiny_base)).execute(resume=True)


def test_a_smaller_base_learns_from_a_larger_one(
    teacher: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    config = llama_config(tokenizer, width=64, num_layers=1)
    write_base(LlamaForCausalLM(config).to(torch.bfloat16), tokenizer, tmp_path / "small", card="")
    job(tmp_path / "small", tmp_path, max_steps=20, teacher=teacher, distillation_weight=1.0).execute()
    first, *_, last = read_metrics(tmp_path / "run")
    assert last["loss"] < 0.8 * first["loss"]


def test_who_cannot_teach_is_refused_before_anything_is_written(
    teacher: str, tiny_base: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    config = llama_config(tokenizer, width=64, num_layers=1)
    config.max_position_embeddings, config.vocab_size = 8, 448
    write_base(LlamaForCausalLM(config).to(torch.bfloat16), tokenizer, tmp_path / "other", card="")
    config = llama_config(tokenizer, width=64, num_layers=1)
    write_base(LlamaForCausalLM(config).to(torch.bfloat16), tokenizer, tmp_path / "broken", card="")
    change_weights(tmp_path / "broken", lambda tensors: tensors["model.norm.weight"].fill_(float("nan")))
    adapter = teacher.partition(",")[2]
    for name, said, kind in (
        (
            str(tmp_path / "other"),
            "vocabulary has 448 entries, the other 384; it has 8 positions, and the longest row 11 tokens",
            ConfigurationError,
        ),
        (f"{tiny_base},{tmp_path}", "is no adapter, it has no adapter_config.json", ConfigurationError),
        (f"{tmp_path / 'other'},{adapter}", "the adapter was trained on seedling", ConfigurationError),
        (str(tmp_path / "nowhere"), "no base is called", NotFound),
    ):
        with pytest.raises(kind, match=said):
            job(tiny_base, tmp_path, max_steps=1, teacher=name).execute()
    with pytest.raises(InvalidBase, match="NaN"):
        job(tiny_base, tmp_path, max_steps=1, teacher=str(tmp_path / "broken")).execute()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"distillation_beta": 0.5}, "'distillation_beta' says how a teacher is followed; add teacher"),
        ({"teacher": "x", "distillation_beta": 1.5}, "'distillation_beta' has the value 1.5"),
        ({"teacher": "x", "distillation_weight": 0}, "'distillation_weight' has the value 0"),
        ({"teacher": "x", "distillation_temperature": 0}, "'distillation_temperature' has the value 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        FinetuneSettings.from_mapping(settings)
