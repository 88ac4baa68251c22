"""Real reviews: the Stanford Sentiment Treebank by an encoder and by a decoder that are pretrained here, the decoder
whole and by LoRA; three seeds each, beside what counting words gives. What was measured stands in LOG.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from graft.cli.main import main
from graft.training.evaluation.statistics.proportions import wilson
from graft.training.tasks.job import made_in
from graft.training.tasks.record import TaskRecord
from tests.training.tasks.words import by_words, reviews

pytestmark = pytest.mark.slow

NUM_SEEDS = 3
DataPath = Callable[[str], Path]
SIZES = ["--vocab-size", "4096", "--hidden-size", "128", "--num-hidden-layers", "2", "--num-attention-heads", "4"]
LEARNED = ["--max-length", "64", "--long-rows", "cut", "--dtype", "float32", "--per-device-train-batch-size", "32"]
LEARNED += ["--learning-rate", "5e-4", "--num-train-epochs", "3"]


ENCODER = ["--family", "bert", "--objective", "masked", "--dropout", "0"]
DECODER = ["--family", "llama"]
RECIPE = ["--optim", "muon", "--learning-rate", "4e-3", "--max-steps"]
"""By AdamW the masked loss stands at single words' frequencies all the while; Muon leaves that in a hundred steps. What
the decoder reads more than three times it learns by heart: after 900 steps its perplexity is 408, after 250 it is 85.
"""


def pretrained(folder: Path, data_path: DataPath, *options: str) -> Path:
    """A model of WikiText-2's 217,000 words."""
    text, held_out = (str(data_path(f"wikitext2/{name}.txt")) for name in ("valid", "test"))
    named = ["--text", text, "--validation", held_out, *SIZES]
    rows = ["--max-length", "64", "--per-device-train-batch-size", "64", "--dtype", "float32"]
    work = ["--work", str(folder / "work"), "--output", str(folder / "base")]
    assert main(["pretrain", *named, *rows, *options, *work]) == 0
    return folder / "base"


@pytest.fixture(scope="session")
def encoder(data_path: DataPath, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained(tmp_path_factory.mktemp("encoder"), data_path, *ENCODER, *RECIPE, "900")


@pytest.fixture(scope="session")
def decoder(data_path: DataPath, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained(tmp_path_factory.mktemp("decoder"), data_path, *DECODER, *RECIPE, "250")


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    def tell(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}")

    return tell


def accuracies(folder: Path, data_path: DataPath, *options: str) -> list[float]:
    """On the test set, of each seed."""
    train, test = (str(data_path(f"sst2/{name}.tsv")) for name in ("train", "test"))
    found = []
    for seed in range(NUM_SEEDS):
        output = folder / str(seed)
        named = ["--task", "text-classification", "--data", train, "--validation", test, "--seed", str(seed)]
        named += ["--name", "sst2", "--output", str(output), "--eval-steps", "100000"]
        assert main(["finetune", *named, *options]) == 0
        found.append(TaskRecord.read(made_in(output)).metrics["accuracy"])
    return found


def shown(found: list[float], num: int) -> tuple[str, float]:
    """The mean with its interval over reviews, and its lower end."""
    mean = sum(found) / len(found)
    low, high = wilson(round(mean * num), num)
    each = ", ".join(f"{100 * one:.1f}" for one in found)
    return f"{100 * mean:.1f} % [{100 * low:.1f}, {100 * high:.1f}] of {num} reviews ({each})", low


def test_by_counted_words(data_path: DataPath, told: Callable[[str], None]) -> None:
    learned, asked = (reviews(data_path(f"sst2/{name}.tsv")) for name in ("train", "test"))
    share = sum(review.label for review in asked) / len(asked)
    text, low = shown([by_words(learned, asked)], len(asked))
    told(f"the more frequent class {100 * max(share, 1 - share):.1f} %; logistic regression on words {text}")
    assert low > 0.75


def test_by_an_encoder_that_is_pretrained_here(
    encoder: Path, tmp_path: Path, data_path: DataPath, told: Callable[[str], None]
) -> None:
    found = json.loads((encoder / "training.json").read_text())["metrics"]
    told(f"of WikiText-2's masked tokens {found['masked_accuracy']:.1%}, by trigrams {found['trigram_accuracy']:.1%}")
    assert found["masked_accuracy"] > found["trigram_accuracy"] > found["unigram_accuracy"]
    num = len(reviews(data_path("sst2/test.tsv")))
    random = pretrained(tmp_path / "random", data_path, *ENCODER, "--learning-rate", "1e-12", "--max-steps", "1")
    text, low = shown(accuracies(tmp_path / "learned", data_path, "--base", str(encoder), *LEARNED), num)
    told(f"pretrained encoder {text}")
    text, _ = shown(accuracies(tmp_path / "unlearned", data_path, "--base", str(random), *LEARNED), num)
    told(f"the same from random weights {text}")
    assert low > 0.7


@pytest.mark.parametrize("method, rate, floor", [("full", "5e-4", 0.7), ("lora", "2e-3", 0.63)])
def test_by_a_decoder_with_a_head(
    decoder: Path,
    tmp_path: Path,
    data_path: DataPath,
    told: Callable[[str], None],
    method: str,
    rate: str,
    floor: float,
) -> None:
    options = ["--base", str(decoder), *LEARNED, "--method", method, "--learning-rate", rate]
    text, low = shown(accuracies(tmp_path, data_path, *options), len(reviews(data_path("sst2/test.tsv"))))
    told(f"pretrained decoder, {method}, {text}")
    assert low > floor
