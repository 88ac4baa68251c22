"""A reward model behind the grading service says what Hugging Face's class says of what it was trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, BitsAndBytesConfig

from graft.adapters.base.base import Base
from graft.adapters.base.files import stop_ids
from graft.cli.main import main
from graft.client import Client, Observation
from graft.training.batch.encoding import RowEncoder
from graft.training.batch.rows.row import Conversation, Turn
from graft.training.model.loading import load_tokenizer

pytestmark = pytest.mark.slow
WORDS = ("ant", "bee", "cat", "dog", "eel", "fox")
ANSWERS = ("A {} is an animal.", "I do not know <|im_end|>", "")


def asked(word: str) -> list[dict[str, str]]:
    earlier = {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day."}
    return [*earlier, {"role": "user", "content": f"What is a {word}?"}]


@pytest.fixture(scope="module")
def trained(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `graft align` makes of the shipped base as NF4."""
    root = tmp_path_factory.mktemp("rewards")
    good, bad = ([{"role": "assistant", "content": one}] for one in ("It is an animal.", "I do not know!"))
    rows = [{"prompt": asked(word), "chosen": good, "rejected": bad} for word in WORDS]
    (root / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--data", str(root / "pairs.jsonl"), "--base", str(base.path), "--name", "worth"]
    flags += ["--output", str(root / "out"), "--max-steps", "20", "--learning-rate", "2e-3"]
    assert main(["align", "--loss-type", "reward", *flags]) == 0
    return root / "out/adapter"


def by_hugging_face(base: Base, folder: Path, rows: list[list[int]]) -> list[float]:
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    plain = AutoModelForSequenceClassification.from_pretrained(
        base.path, num_labels=1, dtype=torch.bfloat16, quantization_config=nf4, pad_token_id=0
    )
    model = PeftModel.from_pretrained(plain, folder).eval()
    with torch.no_grad():
        return [float(model(torch.tensor([row])).logits) for row in rows]


def test_rewards_are_those_of_hugging_faces_class(client: Client, base: Base, trained: Path) -> None:
    pushed = client.push_adapter(trained, name="worth", alias="stable")
    assert pushed.version.num_labels == 1
    observations, rows = [], []
    encoder = RowEncoder(load_tokenizer(base.path), stop_ids=stop_ids(base.path))
    for word in WORDS:
        before = tuple(Turn(role=turn["role"], content=turn["content"], is_learned=False) for turn in asked(word))
        for answer in (one.format(word) for one in ANSWERS):
            observations.append(Observation(output_text=answer, item={"messages": asked(word)}))
            said = Turn(role="assistant", content=answer, is_learned=True)
            rows.append(list(encoder.examples(Conversation(turns=(*before, said)))[0].input_ids))
    grades = client.grade({"type": "reward_model", "name": "r", "model": "worth"}, observations, timeout=120.0)
    assert not [one.faults for one in grades if one.faults]
    assert [one.tokens_by_model["worth"] for one in grades] == [len(row) for row in rows]
    expected = by_hugging_face(base, trained, rows)
    assert max(expected) - min(expected) > 0.5
    assert [one.reward for one in grades] == pytest.approx(expected, abs=0.05)
