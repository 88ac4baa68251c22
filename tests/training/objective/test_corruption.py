"""What is masked, taken out and exchanged: rates of the papers, and properties that hold for every text."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from graft.training.batch.packing import IGNORED
from graft.training.corpus.texts import flat
from graft.training.errors import ConfigurationError
from graft.training.objective import denoising
from graft.training.objective.denoising import DenoisingObjective
from graft.training.objective.encoder_decoder import SequenceToSequence
from graft.training.objective.masked import MaskedObjective, choose_words
from graft.training.objective.permutation import PermutationObjective, hidden
from graft.training.objective.prefix import PrefixObjective
from graft.training.objective.sentence_pairs import SentencePairObjective
from graft.training.objective.span_boundary import SpanBoundaryObjective, choose_spans, span_lengths
from graft.training.objective.span_corruption import SpanCorruptionObjective, spans_to_take
from graft.training.objective.vocabulary import Vocabulary
from graft.training.rootstock.tokenizer import build_tokenizer
from tests.training.objective.vocabularies import (
    CLS,
    FIRST_CONTINUING,
    FIRST_WORD,
    MASK,
    PAD,
    SENTINELS,
    SEP,
    SIZE,
    documents,
    generator,
    vocabulary,
)

LENGTH = 64
SEEDS = st.integers(0, 10_000)
LENGTHS = st.lists(st.integers(1, 90), min_size=1, max_size=5)


def test_masking_rates() -> None:
    """BERT: 15 % of the text, of them 80 % masked, 10 % random, 10 % as they were."""
    objective = MaskedObjective(vocabulary=vocabulary(), length=LENGTH)
    batch = objective.collate(documents(*[62] * 2000), generator())
    labels, inputs = batch.labels["masked"], batch.inputs["input_ids"]
    chosen = labels != IGNORED
    assert chosen.sum().item() / (2000 * 62) == pytest.approx(0.15, abs=0.004)
    masked = (inputs[chosen] == MASK).float().mean().item()
    kept = (inputs[chosen] == labels[chosen]).float().mean().item()
    assert masked == pytest.approx(0.8, abs=0.01)
    assert kept == pytest.approx(0.1 + 0.1 / (SIZE - FIRST_WORD), abs=0.01)
    random = inputs[chosen & (inputs != MASK) & (inputs != labels)]
    assert random.min() >= FIRST_WORD and random.max() < SIZE
    again = objective.collate(documents(*[62] * 2000), generator(1))
    assert not torch.equal(again.labels["masked"], labels), "masks are dynamic"


@given(LENGTHS, SEEDS, st.booleans())
def test_what_was_not_chosen_stays_and_what_is_no_text_is_not_chosen(
    lengths: list[int], seed: int, whole_word: bool
) -> None:
    objective = MaskedObjective(vocabulary=vocabulary(), length=LENGTH, whole_word=whole_word)
    texts = documents(*lengths, seed=seed)
    batch = objective.collate(texts, generator(seed))
    for row, text in enumerate(texts):
        expected = [CLS, *flat(text)[: LENGTH - 2], SEP]
        labels = batch.labels["masked"][row].tolist()
        found = batch.inputs["input_ids"][row].tolist()
        restored = [label if label != IGNORED else one for label, one in zip(labels, found, strict=True)]
        assert restored == expected + [PAD] * (LENGTH - len(expected))
        assert all(label == IGNORED or label >= FIRST_WORD for label in labels)
        assert batch.inputs["attention_mask"][row].sum() == len(expected)


@given(st.integers(2, 90), SEEDS)
def test_of_a_word_all_tokens_are_masked_or_none(length: int, seed: int) -> None:
    ids = torch.tensor([flat(documents(length, seed=seed)[0])])
    chosen = choose_words(ids, vocabulary(), 0.5, generator(seed))[0].tolist()
    for at in range(1, length):
        if ids[0, at] >= FIRST_CONTINUING:
            assert chosen[at] == chosen[at - 1]


def test_whole_words_keep_the_rate() -> None:
    objective = MaskedObjective(vocabulary=vocabulary(), length=LENGTH, whole_word=True)
    batch = objective.collate(documents(*[62] * 2000), generator())
    assert (batch.labels["masked"] != IGNORED).sum().item() / (2000 * 62) == pytest.approx(0.15, abs=0.006)


@pytest.mark.parametrize("question", ["next_sentence", "sentence_order"])
def test_half_of_the_pairs_are_altered(question: str) -> None:
    objective = SentencePairObjective(vocabulary=vocabulary(), length=128, question=question)  # type: ignore[arg-type]
    texts = documents(*[60] * 1000)
    batch = objective.collate(texts, generator())
    labels = batch.labels[question]
    assert labels.float().mean().item() == pytest.approx(0.5, abs=0.05)
    for row in range(50):
        first, second = _segments(batch.inputs, batch.labels["masked"], row)
        whole = flat(texts[row])
        if labels[row] == 0:
            assert first + second == whole
        elif question == "sentence_order":
            assert second + first == whole
        else:
            assert first == whole[: len(first)] and second != whole[len(first) :][: len(second)]


def _segments(inputs: dict[str, torch.Tensor], labels: torch.Tensor, row: int) -> tuple[list[int], list[int]]:
    ids = torch.where(labels[row] != IGNORED, labels[row], inputs["input_ids"][row])
    kinds, is_text = inputs["token_type_ids"][row], ids >= FIRST_WORD
    return ids[is_text & (kinds == 0)].tolist(), ids[is_text & (kinds == 1)].tolist()


@given(LENGTHS, SEEDS)
def test_pairs_fit_whatever_their_documents(lengths: list[int], seed: int) -> None:
    objective = SentencePairObjective(vocabulary=vocabulary(), length=32, question="next_sentence")
    batch = objective.collate(documents(*lengths, seed=seed), generator(seed))
    assert (batch.inputs["input_ids"] == SEP).sum(1).tolist() == [2] * len(lengths)
    one_sentence = [length <= 5 for length in lengths]
    assert (batch.labels["next_sentence"] == IGNORED).tolist() == one_sentence


def test_span_lengths_are_spanberts() -> None:
    """Geo(0.2) cut at 10: mean 3.8 (§3.1)."""
    drawn = span_lengths(50_000, generator())
    assert drawn.min() == 1 and drawn.max() == 10
    assert drawn.float().mean().item() == pytest.approx(3.8, abs=0.03)
    shares = Counter(drawn.tolist())
    assert shares[2] / shares[1] == pytest.approx(0.8, abs=0.05)


@given(st.integers(1, 200), SEEDS)
def test_spans_are_whole_words_apart_from_each_other(length: int, seed: int) -> None:
    ids = flat(documents(length, seed=seed)[0])
    spans = choose_spans(ids, vocabulary(), 0.15, generator(seed))
    budget = round(length * 0.15)
    assert sum(end - begin for begin, end in spans) <= budget + 1
    end_before = -1
    for begin, end in spans:
        assert end_before < begin < end <= length, "with a token between them that is not masked"
        assert begin == 0 or ids[begin] < FIRST_CONTINUING
        assert end == length or ids[end] < FIRST_CONTINUING
        end_before = end


def test_spans_reach_the_rate_and_are_treated_alike() -> None:
    objective = SpanBoundaryObjective(vocabulary=vocabulary(), length=130)
    batch = objective.collate(documents(*[128] * 500), generator())
    labels, inputs = batch.labels["masked"], batch.inputs["input_ids"]
    chosen = labels != IGNORED
    assert chosen.sum().item() / (500 * 128) == pytest.approx(0.15, abs=0.01)
    starts = chosen & ~chosen.roll(1, dims=1)
    assert (inputs[starts] == MASK).float().mean().item() == pytest.approx(0.8, abs=0.02)
    for row, at in starts.nonzero()[:300].tolist():
        end = at + int((~chosen[row, at:]).nonzero()[0])
        assert len({int(one) == MASK for one in inputs[row, at:end]}) == 1


@given(st.integers(2, 600), SEEDS)
def test_spans_that_t5_takes_are_exact_in_number(length: int, seed: int) -> None:
    spans = spans_to_take(length, generator(seed))
    taken = min(max(round(length * 0.15), 1), length - 1)
    assert sum(span.stop - span.start for span in spans) == taken
    assert len(spans) == max(1, min(round(taken / 3), length - taken))
    assert spans[0].start > 0 and spans[-1].stop == length
    assert all(one.stop < two.start for one, two in itertools.pairwise(spans))


@given(st.integers(2, 63), SEEDS)
def test_source_and_target_together_are_the_text(length: int, seed: int) -> None:
    objective = SpanCorruptionObjective(vocabulary=vocabulary(), length=LENGTH)
    (text,) = documents(length, seed=seed)
    batch = objective.collate([text], generator(seed))
    source = batch.inputs["input_ids"][0, : int(batch.inputs["attention_mask"].sum())].tolist()
    target = batch.labels["tokens"][0].tolist()
    assert source.pop() == SEP and target.pop() == SEP
    assert [one for one in source if one in SENTINELS] == [one for one in target if one in SENTINELS]
    pieces: dict[int, list[int]] = {}
    for one in target:
        if one in SENTINELS:
            pieces[one] = piece = []
        else:
            piece.append(one)
    restored = [part for one in source for part in pieces.get(one, [one])]
    assert restored == flat(text)


def test_more_spans_than_sentinels_is_an_error() -> None:
    objective = SpanCorruptionObjective(vocabulary=vocabulary(), length=300)
    with pytest.raises(ValueError, match="15 spans in a row of 299 tokens, and 10 sentinels: take shorter rows"):
        objective.collate(documents(299), generator())


@given(st.integers(0, 90), SEEDS)
def test_noises(length: int, seed: int) -> None:
    (text,) = documents(length, seed=seed) if length else ([],)
    ids, words = flat(text), vocabulary()

    def made(noise: denoising.Noise) -> list[int]:
        return flat(noise(text, words, generator(seed)))

    masked = made(denoising.mask_tokens)
    assert len(masked) == length and all(new in (old, MASK) for new, old in zip(masked, ids, strict=True))
    _assert_subsequence(made(denoising.delete_tokens), ids)
    infilled = made(denoising.infill_text)
    kept = [one for one in infilled if one != MASK]
    _assert_subsequence(kept, ids)
    assert length - len(kept) <= round(length * 0.3)
    assert (MASK, MASK) not in set(itertools.pairwise(infilled))
    assert sorted(made(denoising.permute_sentences)) == sorted(ids)
    rotated = made(denoising.rotate_document)
    assert len(rotated) == length and (not ids or rotated in [ids[at:] + ids[:at] for at in range(length)])


def _assert_subsequence(part: list[int], whole: list[int]) -> None:
    rest = iter(whole)
    assert all(one in rest for one in part)


def test_noise_rates_are_barts() -> None:
    """30 % of the tokens; spans of Poisson(3), so the masks are a third as many and some stand for nothing."""
    text, words = documents(20_000)[0], vocabulary()
    masked = flat(denoising.mask_tokens(text, words, generator()))
    assert masked.count(MASK) / 20_000 == pytest.approx(0.3, abs=0.01)
    deleted = flat(denoising.delete_tokens(text, words, generator()))
    assert len(deleted) / 20_000 == pytest.approx(0.7, abs=0.01)
    short = documents(*[500] * 60)
    infilled = [flat(denoising.infill_text(one, words, generator(seed))) for seed, one in enumerate(short)]
    num_masks = sum(one.count(MASK) for one in infilled)
    num_gone = 500 * 60 - sum(len(one) - one.count(MASK) for one in infilled)
    assert num_gone / (500 * 60) == pytest.approx(0.3, abs=0.03)
    assert num_gone / num_masks == pytest.approx(3.0, abs=0.4)


def test_the_decoder_writes_the_text_as_it_was() -> None:
    objective = DenoisingObjective(vocabulary=vocabulary(), length=LENGTH)
    texts = documents(30, 90)
    batch = objective.collate(texts, generator())
    for row, text in enumerate(texts):
        target = [one for one in batch.labels["tokens"][row].tolist() if one != IGNORED]
        assert target == [CLS, *flat(text)[: LENGTH - 2], SEP]


@given(st.integers(1, 40), SEEDS)
def test_who_sees_whom_in_a_permutation(length: int, seed: int) -> None:
    """Written out from eq. 3: a token sees what is not predicted, and what came before it in the order."""
    order = torch.randperm(length, generator=generator(seed))
    predicted = torch.rand(length, generator=generator(seed + 1)) < 0.4
    found = hidden(order, predicted)
    for i in range(length):
        for j in range(length):
            if not predicted[j]:
                sees = True
            elif not predicted[i]:
                sees = False
            else:
                sees = bool(order[j] < order[i])
            assert bool(found[i, j]) == (not sees)


@given(LENGTHS, SEEDS)
def test_a_sixth_of_a_text_is_predicted_and_it_is_last_in_the_order(lengths: list[int], seed: int) -> None:
    objective = PermutationObjective(vocabulary=vocabulary(), length=LENGTH)
    texts = documents(*lengths, seed=seed)
    batch = objective.collate(texts, generator(seed))
    for row, text in enumerate(texts):
        ids = batch.inputs["input_ids"][row]
        assert ids[-2:].tolist() == [SEP, CLS]
        labels = batch.labels["tokens"][row]
        asked = labels != IGNORED
        assert asked.sum() == min(len(flat(text)), LENGTH - 2) // 6
        places = batch.inputs["target_mapping"][row].argmax(-1)[asked]
        assert ids[places].tolist() == labels[asked].tolist()
        seen_by_text = batch.inputs["perm_mask"][row]
        others = torch.ones(LENGTH, dtype=torch.bool)
        others[places] = False
        assert bool((seen_by_text[others][:, places] == 1).all()), "no other token sees a predicted one"


@given(LENGTHS, SEEDS)
def test_prefixes_are_read_and_the_rest_is_predicted(lengths: list[int], seed: int) -> None:
    objective = PrefixObjective(vocabulary=vocabulary(), length=LENGTH)
    batch = objective.collate(documents(*lengths, seed=seed), generator(seed))
    for row, length in enumerate(min(one, LENGTH - 1) + 1 for one in lengths):
        asked = (batch.labels["tokens"][row] != IGNORED).nonzero().flatten().tolist()
        prefix = asked[0] + 1 if asked else length
        assert prefix >= 1 and asked == list(range(prefix - 1, length - 1))
        mask = batch.inputs["attention_mask"][row, 0]
        assert bool(mask[:length, :prefix].all()) and not bool(mask[:length, length:].any())
        assert bool((mask[prefix:length, prefix:length] == torch.ones(length - prefix, length - prefix).tril()).all())


def wordpiece(*tokens: str, **special: str) -> PreTrainedTokenizerFast:
    vocabulary = {token: index for index, token in enumerate(tokens)}
    inner = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]", **special)


def test_a_vocabulary_knows_special_tokens_and_words() -> None:
    tokens = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<extra_id_0>", "<extra_id_1>", "play", "##ing", "a")
    special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    found = Vocabulary.of(wordpiece(*tokens, **special))
    assert (found.pad_id, found.cls_id, found.sep_id, found.mask_id, found.sentinel_ids) == (0, 2, 3, 4, (5, 6))
    assert found.special_V.tolist() == [True] * 7 + [False] * 3
    assert found.continues_V.tolist() == [False] * 8 + [True, False]
    with pytest.raises(ConfigurationError, match="no pad token"):
        Vocabulary.of(wordpiece(*tokens))


def test_what_an_objective_needs_and_a_tokenizer_has_not_is_named() -> None:
    plain = Vocabulary.of(build_tokenizer(256))
    with pytest.raises(ConfigurationError, match="has no mask token, which this objective needs"):
        MaskedObjective(vocabulary=plain, length=LENGTH)
    with pytest.raises(ConfigurationError, match="no sentinel token"):
        SpanCorruptionObjective(vocabulary=plain, length=LENGTH)


@pytest.mark.parametrize("kind", [SpanCorruptionObjective, DenoisingObjective])
@pytest.mark.parametrize("length", [32, 64, 128])
def test_how_long_both_sides_are_is_known_beforehand(kind: type[SequenceToSequence], length: int) -> None:
    objective: SequenceToSequence = kind(vocabulary=vocabulary(), length=length)
    batch = objective.collate(documents(*[length] * 400), generator())  # cut to what a row holds
    read, written = objective.row_lengths
    assert batch.num_tokens / 400 == pytest.approx(read, rel=0.03)
    assert batch.num_labels["tokens"] / 400 == pytest.approx(written, rel=0.01)
