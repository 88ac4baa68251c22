"""Every tensor of a fine-tuning lies where the model does: shown on a device that mixes with no tensor of the CPU's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.training.adapt import adapted
from graft.training.evaluation.local import LocalAnswerer
from graft.training.finetune.job import Finetune
from graft.training.finetune.settings import FinetuneSettings
from graft.training.launch.processes import Processes
from graft.training.loop.progress import read_metrics
from graft.training.model import loading
from graft.training.model.loading import PLAIN_FORMS, load_base, load_tokenizer
from tests.training.second_device import second_device

ROWS = [{"prompt": f"{word} -> ", "completion": word.upper()} for word in ("ant", "bee", "cat", "dog")]


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    with second_device() as device:

        def loaded(path: Path, form: ServingForm, *, device: torch.device, **options: Any) -> Any:
            return load_base(path, form, **options).to(device)

        monkeypatch.setattr(adapted, "load_base", loaded)
        monkeypatch.setattr(adapted, "own_device", lambda kind: torch.device(kind))
        yield device


def trained(base: Path, folder: Path, device: str, **settings: Any) -> Path:
    folder.mkdir()
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    chosen = {"load_in_4bit": False, "max_steps": 3, "eval_steps": 2, "validation": str(data), **settings}
    made = FinetuneSettings.from_mapping({"per_device_train_batch_size": 4, **chosen})
    finetune = Finetune(base=Base.from_folder(base), data=data, settings=made, work=folder / "run")
    return finetune.execute(Processes(num=1, device=device))


def told(folder: Path, name: str) -> list[float]:
    return [row[name] for row in read_metrics(folder) if name in row]


@pytest.mark.parametrize(
    "settings",
    [{}, {"gradient_checkpointing": True, "lora_dropout": 0.1}, {"packing": False}],
    ids=["packed", "checkpointing", "unpacked"],
)
def test_a_fine_tuning_elsewhere_learns_the_same(
    tiny_base: Path, tmp_path: Path, device: torch.device, settings: dict[str, Any]
) -> None:
    found, expected = (trained(tiny_base, tmp_path / one, one, **settings) for one in (device.type, "cpu"))
    for name in ("loss", "gradient_norm", "validation_loss"):
        there, here = (told(folder.parent, name) for folder in (found, expected))
        assert there == pytest.approx(here, rel=0.02)
    rows = [json.loads((folder / "reference.json").read_text())["rows"][: len(ROWS)] for folder in (found, expected)]
    for row, other in zip(*rows, strict=True):
        assert row["token_ids"] == other["token_ids"]
        assert row["logprobs"] == pytest.approx(other["logprobs"], abs=0.1)


def test_local_evaluation_elsewhere_says_the_same(tiny_base: Path, device: torch.device) -> None:
    here = LocalAnswerer(load_base(tiny_base, ServingForm.FP32), load_tokenizer(tiny_base))
    there = LocalAnswerer(load_base(tiny_base, ServingForm.FP32).to(device), here.tokenizer)
    prompts, endings = ["ant -> ", "a longer prompt -> "], [" yes", " certainly not"]
    assert there.score(prompts, endings) == [pytest.approx(one, abs=1e-4) for one in here.score(prompts, endings)]
    assert there.complete(prompts, max_tokens=4, stop=None) == here.complete(prompts, max_tokens=4, stop=None)


@pytest.mark.parametrize("form", PLAIN_FORMS)
def test_a_base_is_loaded_and_quantized_where_it_will_compute(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch, form: ServingForm
) -> None:
    """Left to itself, transformers quantizes on a GPU where there is one, and leaves plain weights on the CPU."""
    asked: list[dict[str, Any]] = []

    def from_pretrained(path: Path, **options: Any) -> NoReturn:
        asked.append(options)
        raise InterruptedError

    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", from_pretrained)
    device = torch.device("cuda", 3)
    with pytest.raises(InterruptedError):
        load_base(tiny_base, form, device=device)
    assert asked[0]["device_map"] == {"": device}
