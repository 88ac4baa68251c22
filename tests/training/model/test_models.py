"""Every family with every objective it takes: trained from nothing, loaded by Hugging Face, and it says its text."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from torch.optim import Muon
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSeq2SeqLM,
    PreTrainedTokenizerFast,
)

from graft.training.batch.data import Data
from graft.training.batch.text_rows import PackedText, TextRows
from graft.training.corpus.texts import encode
from graft.training.errors import ConfigurationError
from graft.training.loop.optim import Schedule, adamw, muon
from graft.training.loop.run import Run
from graft.training.loop.step import Step
from graft.training.loop.weights import is_hidden_matrix
from graft.training.model.attention import in_blocks
from graft.training.model.attention.in_blocks import attend_in_blocks
from graft.training.model.configuration import configuration, num_positions
from graft.training.model.family import FAMILIES, Size, family, trainable
from graft.training.model.loading import parts
from graft.training.objective.catalog import build
from graft.training.objective.causal import CausalObjective
from graft.training.objective.denoising import DenoisingObjective, infill_text
from graft.training.objective.experts import ExpertsObjective
from graft.training.objective.masked import MaskedObjective
from graft.training.objective.objective import Objective
from graft.training.objective.permutation import PermutationObjective
from graft.training.objective.prefix import PrefixObjective
from graft.training.objective.replaced_token import ReplacedTokenObjective
from graft.training.objective.sentence_pairs import SentencePairObjective
from graft.training.objective.span_boundary import SpanBoundaryObjective
from graft.training.objective.span_corruption import SpanCorruptionObjective
from graft.training.objective.vocabulary import Vocabulary

TEXT = "one two three four . five six seven eight . nine ten eleven twelve ."
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"<extra_id_{number}>" for number in range(4))]
LENGTH = 20
SIZE = Size(width=32, num_layers=2, num_heads=4, feed_forward=64, length=32, num_kv_heads=2, num_experts=4)
NUM_STEPS = {"permutation": 500, "span_corruption": 400, "sentence_order": 300}
WITH_DROPOUT = [name for name in trainable() if FAMILIES[name].kind != "decoder" or name == "gpt2"]
CASES = [(name, objective) for name in trainable() for objective in FAMILIES[name].objectives]
ROUNDED = [case for case in CASES if not FAMILIES[case[0]].needs_float32]


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerFast:
    """One token a word."""
    tokens = [*SPECIAL, *dict.fromkeys(TEXT.split())]
    inner = Tokenizer(models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        bos_token="[CLS]",
        eos_token="[SEP]",
        extra_special_tokens=SPECIAL[5:],
    )


def objective_of(family_name: str, name: str, vocabulary: Vocabulary) -> Objective[Any]:
    common: dict[str, Any] = {"vocabulary": vocabulary, "length": LENGTH}
    if name in ("next_sentence", "sentence_order"):
        return SentencePairObjective(**common, question=name)  # type: ignore[arg-type]
    kinds: dict[str, Any] = {
        "masked": MaskedObjective,
        "span_boundary": SpanBoundaryObjective,
        "replaced_token": ReplacedTokenObjective,
        "permutation": PermutationObjective,
        "prefix": PrefixObjective,
    }
    if name == "denoising":
        return DenoisingObjective(**common, noises=(infill_text,))
    if name == "span_corruption":  # of so short a text 15 % is one span, always the last
        return SpanCorruptionObjective(**common, rate=0.4, mean_span=2.0)
    if name == "causal":
        return ExpertsObjective() if family_name == "mixtral" else CausalObjective()
    made: Objective[Any] = kinds[name](**common)
    return made


def data_of(objective: Objective[Any], words: PreTrainedTokenizerFast, vocabulary: Vocabulary) -> Data[Any]:
    documents = encode([TEXT] * 8, words)
    if isinstance(objective, CausalObjective | ExpertsObjective):
        return PackedText(
            documents,
            length=LENGTH,
            end_id=vocabulary.sep,
            pad_id=vocabulary.pad_id,
            rows_per_batch=4,
            batches_per_step=1,
            seed=0,
        )
    collate = objective.collate  # type: ignore[attr-defined]
    return TextRows([documents], collate, rows_per_batch=8, batches_per_step=1, seed=0)


@pytest.mark.parametrize(("name", "objective_name"), CASES, ids=[f"{one}-{two}" for one, two in CASES])
def test_a_family_learns_and_is_loaded_by_hugging_face(
    name: str, objective_name: str, words: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    vocabulary = Vocabulary.of(words)
    objective = objective_of(name, objective_name, vocabulary)
    model = build(FAMILIES[name], objective_name, SIZE, words)
    run = Run(
        step=Step(model, objective=objective, optimizers=adamw(weight_decay=0.0)),
        data=data_of(objective, words, vocabulary),
        schedule=Schedule(num_steps=NUM_STEPS.get(objective_name, 150), warmup_steps=10),
        learning_rate=5e-3,
        folder=tmp_path / "run",
    )
    run.execute()
    losses = [json.loads(line)["loss"] for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0] * 0.5
    for part, one in parts(model).items():
        one.save_pretrained(tmp_path / "saved" / part)
    CHECKS[objective_name](tmp_path / "saved", words)


def continues(folder: Path, words: PreTrainedTokenizerFast) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = words("one two three", return_tensors="pt", add_special_tokens=False)["input_ids"]
    said = model.generate(ids, max_new_tokens=6, do_sample=False)[0, 3:]
    assert words.decode(said) == "four . five six seven eight"


def fills_in(folder: Path, words: PreTrainedTokenizerFast, kind: Any = AutoModelForMaskedLM) -> None:
    model = kind.from_pretrained(folder).eval()
    text = f"[CLS] {TEXT.replace('seven', '[MASK]').replace('two', '[MASK]')} [SEP]"
    ids = words(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    output = model(input_ids=ids)
    logits = output.logits if hasattr(output, "logits") else output.prediction_logits
    assert words.decode(logits.argmax(-1)[ids == words.mask_token_id]).split() == ["two", "seven"]


def fills_in_with_a_question(folder: Path, words: PreTrainedTokenizerFast) -> None:
    fills_in(folder, words, AutoModelForPreTraining)


def tells_what_was_replaced(folder: Path, words: PreTrainedTokenizerFast) -> None:
    fills_in(folder / "generator", words)
    model = AutoModelForPreTraining.from_pretrained(folder).eval()
    text = f"[CLS] {TEXT.replace('seven', 'one')} [SEP]"
    ids = words(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    logits = model(input_ids=ids).logits[0]
    assert int(logits.argmax()) == text.split().index("one", 3)


def predicts_the_last(folder: Path, words: PreTrainedTokenizerFast) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    text = f"[PAD] [PAD] [PAD] {TEXT} [SEP] [CLS]"
    ids = words(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    at = text.split().index("seven")
    hidden, mapping = torch.zeros(1, LENGTH, LENGTH), torch.zeros(1, 1, LENGTH)
    hidden[:, :, at], mapping[0, 0, at] = 1.0, 1.0
    mask = (ids != words.pad_token_id).float()
    logits = model(input_ids=ids, attention_mask=mask, perm_mask=hidden, target_mapping=mapping).logits
    assert words.decode(logits[0].argmax(-1)) == "seven"


def writes_spans(folder: Path, words: PreTrainedTokenizerFast) -> None:
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    text = f"{TEXT.replace('six seven', '<extra_id_0>').replace('eleven twelve .', '<extra_id_1>')} [SEP]"
    ids = words(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    said = words.decode(model.generate(ids, max_new_tokens=8, do_sample=False)[0])
    assert "<extra_id_0> six" in said and "<extra_id_1>" in said


def writes_the_text(folder: Path, words: PreTrainedTokenizerFast) -> None:
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    text = f"[CLS] {TEXT.replace('six seven', '[MASK]')} [SEP]"
    ids = words(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    said = model.generate(ids, max_new_tokens=18, do_sample=False, num_beams=1)[0]
    assert words.decode(said, skip_special_tokens=True) == TEXT


CHECKS: dict[str, Any] = {
    "causal": continues,
    "prefix": continues,
    "masked": fills_in,
    "span_boundary": fills_in,
    "next_sentence": fills_in_with_a_question,
    "sentence_order": fills_in_with_a_question,
    "replaced_token": tells_what_was_replaced,
    "permutation": predicts_the_last,
    "span_corruption": writes_spans,
    "denoising": writes_the_text,
}


def test_what_does_not_fit_is_refused(words: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ConfigurationError, match="unknown family 'oak'; the families are gpt2, llama"):
        family("oak")
    with pytest.raises(ConfigurationError, match="gpt2 cannot be trained with 'masked'; it can with causal, prefix"):
        build(FAMILIES["gpt2"], "masked", SIZE, words)
    with pytest.raises(ConfigurationError, match="a width of 30 cannot be split among 4 heads"):
        Size(width=30, num_layers=1, num_heads=4, feed_forward=8, length=8)
    with pytest.raises(ConfigurationError, match="4 heads cannot share 3 key-value heads"):
        Size(width=32, num_layers=1, num_heads=4, feed_forward=8, length=8, num_kv_heads=3)


def test_albert_shares_its_layers_and_electra_its_embeddings(words: PreTrainedTokenizerFast) -> None:
    albert = build(FAMILIES["albert"], "sentence_order", SIZE, words)
    assert sum("attention.query.weight" in name for name, _ in albert.named_parameters()) == 1
    electra = build(FAMILIES["electra"], "replaced_token", SIZE, words)
    assert isinstance(electra, nn.Module)
    names = [name for name, _ in electra.named_parameters() if name.endswith("word_embeddings.weight")]
    assert len(names) == 1


@pytest.mark.parametrize(
    ("name", "objective_name"),
    ROUNDED,
    ids=[f"{one}-{two}" for one, two in ROUNDED],
)
def test_bfloat16_is_float32_rounded(
    name: str, objective_name: str, words: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attention's way in bfloat16 is our own; what each family makes of masks and scales must reach it."""
    vocabulary = Vocabulary.of(words)
    objective = objective_of(name, objective_name, vocabulary)
    (batch,) = data_of(objective, words, vocabulary).batches(0)
    torch.manual_seed(0)
    size = replace(SIZE, dropout=0.0) if name in WITH_DROPOUT else replace(SIZE, window=6)
    exact = build(FAMILIES[name], objective_name, size, words)
    for parameter_name, parameter in exact.named_parameters():
        if is_hidden_matrix(parameter_name, parameter):
            parameter.data *= 1 if name == "t5" else 5  # else every token sees every other alike; T5 has no scale
    rounded = copy.deepcopy(exact).bfloat16()
    attend_in_blocks(rounded)
    calls = []
    apply = in_blocks._Attention.apply
    monkeypatch.setattr(in_blocks._Attention, "apply", lambda *inputs: calls.append(1) or apply(*inputs))
    slopes = []
    for model in (exact, rounded):
        torch.manual_seed(1)
        sum(objective.sums(model, batch).values()).backward()  # type: ignore[union-attr]
        slopes.append(torch.cat([one.grad.flatten().double() for one in model.parameters() if one.grad is not None]))
    assert bool(calls) == (name != "t5")
    assert (slopes[1] - slopes[0]).norm() <= 0.04 * slopes[0].norm()  # 0.006 to 0.028 where this was written


MULTIPLY = {"Linear", "Conv1D", "MixtralTopKRouter"}


@pytest.mark.parametrize("name", trainable())
def test_muon_takes_the_products_in_the_blocks(name: str, words: PreTrainedTokenizerFast) -> None:
    """Embeddings and heads are AdamW's, whatever a family calls its parts."""
    model = build(FAMILIES[name], FAMILIES[name].objectives[0], SIZE, words)
    optimizers = muon()(dict(model.named_parameters()))
    taken = {id(one) for group in optimizers[0].param_groups for one in group["params"]}
    expected = {
        id(module.weight)
        for path, module in model.named_modules()
        if type(module).__name__ in MULTIPLY and any(part.isdigit() for part in path.split("."))
    }
    assert taken == expected
    assert isinstance(optimizers[0], Muon)
    heads = [one.get_output_embeddings() for one in parts(model).values()]
    assert not any(id(head.weight) in taken for head in heads if head is not None)


@pytest.mark.parametrize("name", trainable())
def test_every_place_and_every_id_is_in_the_model(name: str) -> None:
    """Also where padding is the last token of all, and ids have gaps."""
    tokens = {token: index for index, token in enumerate(TEXT.split())} | {"[UNK]": 50, "[SEP]": 60, "[PAD]": 75}
    inner = Tokenizer(models.WordLevel(tokens, unk_token="[UNK]"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", eos_token="[SEP]")
    config = configuration(FAMILIES[name], SIZE, tokenizer)
    assert config.vocab_size == 76
    assert num_positions(config) in (SIZE.length, None)
    model = parts(build(FAMILIES[name], FAMILIES[name].objectives[0], SIZE, tokenizer))
    ids = torch.full((1, SIZE.length), 60)
    for one in model.values():
        one.eval()(input_ids=ids, **({"decoder_input_ids": ids} if FAMILIES[name].kind == "encoder-decoder" else {}))
