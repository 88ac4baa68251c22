"""However large the corpus, a training starts at once and in the same memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from graft.training.corpus.byte_pairs import train_tokenizer
from tests.training.pretrain.starting import write_tokens

MB = 1_000_000


def start(tmp_path: Path, *, tokens_per_shard: int, num_shards: int) -> dict[str, dict[str, float]]:
    """Seconds to the first step and growth of memory: of a training on 1 MB of tokens, then of one on so many, in the
    same process.
    """
    tokenizer = train_tokenizer(["some text"] * 3, vocab_size=300, context_tokens=256)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    highest = len(tokenizer) - 1
    sizes = {"small": (500_000, 1), "large": (tokens_per_shard, num_shards)}
    for name, (num_tokens, num) in sizes.items():
        write_tokens(
            tmp_path / name, tmp_path / "tokenizer", num_shards=num, tokens_per_shard=num_tokens, highest=highest
        )
    arguments = [tmp_path / "runs", tmp_path / "small", tmp_path / "large", tmp_path / "figures.json"]
    module = [sys.executable, "-m", "tests.training.pretrain.starting"]
    done = subprocess.run([*module, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, dict[str, float]] = json.loads((tmp_path / "figures.json").read_text())
    return found


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    """Lists of 60M tokens would take 2 GB, one array of them 120 MB."""
    found = start(tmp_path, tokens_per_shard=20_000_000, num_shards=3)
    assert found["large"]["RssAnon"] < 40 * MB


@pytest.mark.slow
def test_two_gigabytes_of_tokens_start_in_200_mb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it takes by the clock is told, not judged: machines are busy."""
    found = start(tmp_path, tokens_per_shard=125_000_000, num_shards=8)
    with capsys.disabled():
        print(f"\n{json.dumps(found)}")
    assert found["large"]["RssAnon"] < 200 * MB
