"""What trains the base's own weights makes a base, in which all else is as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from graft.adapters.base.base import Base
from graft.adapters.base.file_names import is_base_file
from graft.training.finetune.job import Finetune
from graft.training.finetune.settings import FinetuneSettings
from graft.training.job.export import write_base
from graft.training.loop.progress import read_metrics

ROWS = [{"prompt": f"{word} -> ", "completion": word.upper()} for word in ("ant", "bee", "cat", "dog")]


@pytest.fixture(scope="module")
def biased(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A base whose layers have biases."""
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, eos_token_id=2, bos_token_id=1, tie_word_embeddings=False,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("bases") / "biased"
    write_base(GPTNeoXForCausalLM(config).to(torch.bfloat16), tokenizer, folder, card="# biased\n")
    return folder


@pytest.mark.parametrize(
    ("settings", "learns"),
    [
        ({"method": "full"}, lambda name: True),
        ({"method": "full", "trainable_layers": 1}, lambda name: ".layers.2." in name),
        ({"method": "full", "trainable_parameters": r".*\.dense.*\.weight"}, lambda name: ".dense" in name),
        ({"method": "bitfit"}, lambda name: name.endswith(".bias")),
    ],
    ids=["full", "last block", "by name", "bitfit"],
)
def test_a_base_comes_out_in_which_only_that_has_moved_which_was_to(
    settings: dict[str, Any], learns: Any, biased: Path, tmp_path: Path
) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    options = {"per_device_train_batch_size": 4, "max_steps": 2, "learning_rate": 0.01, "report_examples": 0}
    made = Finetune(
        base=Base.from_folder(biased),
        data=data,
        settings=FinetuneSettings.from_mapping({**options, **settings}),
        work=tmp_path / "run",
    )
    folder = made.execute()
    assert folder == tmp_path / "run" / "base" and Base.from_folder(folder).digest != made.base.digest
    before, after = (load_file(path / "model.safetensors") for path in (biased, folder))
    assert before.keys() == after.keys()
    assert all(is_base_file(path.name) for path in folder.iterdir())  # a server takes it as an upload, too
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    is_weight = settings.get("trainable_parameters") is not None
    expected = {name for name in before if learns(name) and not (is_weight and not name.endswith(".weight"))}
    assert moved == expected
    assert str(tmp_path) not in "".join(path.read_text() for path in folder.glob("*.json"))
    assert json.loads((folder / "training.json").read_text())["base"]["digest"] == made.base.digest
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.architectures == ["GPTNeoXForCausalLM"]
    assert read_metrics(made.work)[-1]["loss"] < read_metrics(made.work)[0]["loss"]
