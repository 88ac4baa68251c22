import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from graft.adapters.form import ServingForm
from graft.client import Client, ResourceExhausted
from graft.client.errors import Details
from graft.training.corpus import sst2
from graft.training.errors import DataError
from graft.training.evaluation import classification
from graft.training.evaluation.answerer import Prompt
from graft.training.evaluation.local import LocalAnswerer
from graft.training.evaluation.remote import RemoteAnswerer
from graft.training.model.loading import load_tokenizer
from graft.training.rootstock import evaluation as rootstock


class Calculator:
    """Adds rightly when it may work, answers 0 directly, and knows one function only: upper case."""

    def complete(self, prompts: Sequence[Prompt], *, max_tokens: int, stop: str | None) -> list[str]:
        return [self._answer(str(prompt)) for prompt in prompts]

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[list[float]]:
        return [[float("good" in str(prompt)) * (text == "positive") for text in continuations] for prompt in prompts]

    def _answer(self, prompt: str) -> str:
        if prompt.endswith("?"):
            return f" 1+1+0=2; {sum(map(int, prompt[:-1].split('+')))}"
        return " " + prompt.splitlines()[-1].split(" ->")[0].upper() if prompt.endswith("->") else "0"


def test_the_table_shows_what_was_right() -> None:
    scores = rootstock.evaluate(Calculator(), num_trials=36)
    by_task = {(score.task, score.setting): score for score in scores}
    assert by_task["3-digit sum", "worked"].percent == 100
    assert by_task["3-digit sum", "direct"].percent == 0
    assert by_task["upper case", "4-shot"].percent == 100
    assert by_task["reverse", "4-shot"].num_right == 0
    assert {score.num_trials for score in scores if score.setting == "4-shot"} == {2}
    text = rootstock.table(scores)
    assert "worked over direct: +100.0 points" in text
    assert "all (36 each)" in text


def test_local_answers_do_not_depend_on_their_neighbours(tiny_base: Path) -> None:
    answerer = LocalAnswerer.load(tiny_base, ServingForm.FP32)
    prompts = ["a", "longer prompt -> ", "12+3="]
    together = answerer.complete(prompts, max_tokens=5, stop=None)
    assert together == [answerer.complete([prompt], max_tokens=5, stop=None)[0] for prompt in prompts]


def test_local_answers_need_no_padding_token(tiny_base: Path) -> None:
    answerer = LocalAnswerer.load(tiny_base, ServingForm.FP32)
    prompts: list[Prompt] = ["a", [{"role": "user", "content": "a longer prompt with <|im_end|> in it"}]]
    expected = answerer.complete(prompts, max_tokens=5, stop=None), answerer.score(prompts, ["x", "yz"])
    answerer.tokenizer.pad_token = None
    without = LocalAnswerer(answerer.model, answerer.tokenizer)
    assert without.complete(prompts, max_tokens=5, stop=None) == expected[0]
    assert without.score(prompts, ["x", "yz"]) == expected[1]


@pytest.mark.parametrize("stops", [None, [], "<|im_end|>", ["<|im_end|>"], ["<|im_end|>", "<|eos|>"]], ids=str)
def test_local_answers_end_where_learned_ones_do(
    stops: str | list[str] | None, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the tokenizer's own end and at generation's; what fills a batch behind an end is no answer."""
    loaded = LocalAnswerer.load(tiny_base, ServingForm.FP32)
    x, end, turn_end = loaded.tokenizer.convert_tokens_to_ids(["x", "<|eos|>", "<|im_end|>"])
    loaded.model.generation_config.eos_token_id = stops and loaded.tokenizer.convert_tokens_to_ids(stops)
    asked: list[set[int]] = []

    def generate(*, input_ids: torch.Tensor, eos_token_id: list[int], **options: object) -> torch.Tensor:
        asked.append(set(eos_token_id))
        return torch.cat([input_ids, torch.tensor([[x, end, x, x], [x, x, x, turn_end if stops else end]])], dim=1)

    monkeypatch.setattr(loaded.model, "generate", generate)
    answerer = LocalAnswerer(loaded.model, loaded.tokenizer)
    assert answerer.complete(["a", "abcd"], max_tokens=4, stop=None) == ["x", "xxx"]
    assert asked == [{end, turn_end} if stops else {end}]


def test_local_scores_are_log_probabilities(tiny_base: Path) -> None:
    answerer = LocalAnswerer.load(tiny_base, ServingForm.FP32)
    ((first, second),) = answerer.score(["abc"], ["d", "de"])
    ids = torch.tensor([answerer.tokenizer("abcde")["input_ids"]])
    logprobs = answerer.model(input_ids=ids).logits[0].log_softmax(-1)
    assert first == pytest.approx(float(logprobs[2, ids[0, 3]]), abs=1e-4)
    assert second == pytest.approx(first + float(logprobs[3, ids[0, 4]]), abs=1e-4)
    everything = answerer.score(["abc"], [chr(code) for code in range(0x20, 0x7F)])[0]
    assert sum(map(math.exp, everything)) < 1 + 1e-6


@pytest.mark.parametrize("model_type", ["gpt2", "opt", "gpt_neox", "bloom", "gemma3_text", "recurrent_gemma"])
def test_reading_25_padding_moves_no_position(model_type: str, tiny_base: Path, tmp_path: Path) -> None:
    """Endings of other lengths beside it change no score, nor prompts of other lengths an answer."""
    tokenizer = load_tokenizer(tiny_base)
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 128,
        "max_position_embeddings": 64,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        **{
            "opt": {"ffn_dim": 128, "word_embed_proj_dim": 64},
            "recurrent_gemma": {"lru_width": 64},
            "gemma3_text": {"num_key_value_heads": 1, "head_dim": 32},
        }.get(model_type, {}),
    }
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **options))
    with torch.no_grad():
        for parameter in model.parameters():  # far apart, so that a wrong position shows
            parameter.mul_(5 if parameter.ndim > 1 else 1)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    answerer = LocalAnswerer.load(tmp_path, ServingForm.FP32)
    endings = ["d", "de", "defghijkl"]
    alone = [answerer.score(["abc"], [ending])[0][0] for ending in endings]
    assert answerer.score(["abc"], endings)[0] == pytest.approx(alone, rel=1e-4)
    if model_type != "recurrent_gemma":  # generation is Hugging Face's, whose padding runs through recurrent layers
        prompts = ["a", "longer prompt -> ", "12+3="]
        together = answerer.complete(prompts, max_tokens=5, stop=None)
        assert together == [answerer.complete([prompt], max_tokens=5, stop=None)[0] for prompt in prompts]


def test_accuracy_and_the_file_it_reads(tmp_path: Path) -> None:
    path = tmp_path / "dev.tsv"
    path.write_text("a good film\t1\nbad\t0\ngood grief\t0\n")
    examples = classification.read_examples(path)
    accuracy = classification.evaluate(Calculator(), examples, model="m")
    assert (accuracy.num_right, accuracy.num_examples) == (2, 3)
    assert accuracy.predicted == {"negative": 1, "positive": 2}
    path.write_text("fine\t1\nno label here\n")
    with pytest.raises(DataError, match="line 2"):
        classification.read_examples(path)


def test_sst2_becomes_rows(data_path: Callable[[str], Path]) -> None:
    examples = sst2.read(data_path("sst2/train.tsv"))
    assert len(examples) == 6920  # Socher et al. 2013, two classes, whole sentences
    assert sum(example.label == "positive" for example in examples) == 3610
    assert sst2.row(examples[0])["messages"][1]["content"] == "positive"


class FullAtFirst:
    """A server that is full twice before it answers."""

    def __init__(self) -> None:
        self.num_calls = 0

    def generate(self, prompt: str, **options: object) -> SimpleNamespace:
        self.num_calls += 1
        if self.num_calls <= 2:
            raise ResourceExhausted(
                "full", code=grpc.StatusCode.RESOURCE_EXHAUSTED, details=Details(retry_after_seconds=0.01)
            )
        return SimpleNamespace(text=f"{prompt}!")


def test_a_full_server_is_asked_again() -> None:
    server = FullAtFirst()
    answerer = RemoteAnswerer(cast(Client, server), num_streams=1)
    assert answerer.complete(["a", "b"], max_tokens=1, stop=None) == ["a!", "b!"]
    assert server.num_calls == 4
