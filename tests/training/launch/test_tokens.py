"""Several processes on one text: the first makes tokens of it, and together they read what one would."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from graft.cli.main import main
from graft.training.corpus.byte_pairs import train_tokenizer
from graft.training.corpus.texts import read_documents
from graft.training.launch.processes import Processes
from graft.training.pretrain.corpus import FOLDER
from tests.training.launch.test_launchers import TORCHRUN, arguments, curve, run, write_text


def test_what_the_first_process_makes_all_have_and_what_it_refuses_all_refuse(tmp_path: Path) -> None:
    """The others meet it again and again meanwhile, so that no time-out of the process group ends a long making."""
    run([*TORCHRUN, "-m", "tests.training.launch.meeting", str(tmp_path)])
    for rank in range(2):
        found = json.loads((tmp_path / str(rank)).read_text())
        words = "a keyword of its own is lost on the way"
        refused = ["refused by 0", words if rank == 0 else f"Interrupted: {words}"]
        assert found == {"made": "made by 0", "refused": refused, "waited": ["wait"] * 3}
    assert Processes(num=1, device="cpu").by_first(lambda: 3) == 3


@pytest.mark.slow
def test_two_processes_read_of_mapped_tokens_what_one_reads_of_the_text(tmp_path: Path) -> None:
    text, common = write_text(tmp_path), {"max_steps": 12, "save_steps": 6}
    speller = train_tokenizer(read_documents(text), vocab_size=300, context_tokens=64)
    speller.save_pretrained(tmp_path / "tokenizer")
    command = ["corpus", "tokenize", "--text", str(text), "--tokenizer", str(tmp_path / "tokenizer")]
    assert main([*command, "--output", str(tmp_path / "tokens"), "--workers", "1"]) == 0
    run(
        [
            sys.executable,
            "-m",
            "graft.cli.main",
            *arguments(tmp_path, "one", text, gradient_accumulation_steps=2, **common),
        ]
    )
    run([*TORCHRUN, "-m", "graft.cli.main", *arguments(tmp_path, "two", tmp_path / "tokens", **common)])
    run([*TORCHRUN, "-m", "graft.cli.main", *arguments(tmp_path, "text", text, **common)])
    one, two, by_text = (curve(tmp_path, name) for name in ("one", "two", "text"))
    assert len(one) == 12 and max(abs(one[step] - two[step]) for step in one) < 1e-5
    assert two == by_text and len(list((tmp_path / "text-work" / FOLDER).iterdir())) == 1
    (tmp_path / "two-work" / "checkpoint-12" / "COMPLETE").unlink()
    expected = load_file(tmp_path / "two" / "model.safetensors")
    again = arguments(tmp_path, "two", tmp_path / "tokens", **common)
    run([*TORCHRUN, "-m", "graft.cli.main", *again, "--resume"])
    found = load_file(tmp_path / "two" / "model.safetensors")
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
