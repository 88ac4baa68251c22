"""What rows ask: something at least, of whole words, and with wrong answers from elsewhere."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graft.training.batch.others import Others
from graft.training.batch.packing import IGNORED
from graft.training.batch.text_rows import TextRows
from graft.training.corpus.byte_pairs import train_tokenizer
from graft.training.corpus.texts import Sentences, encode_whole, flat
from graft.training.errors import ConfigurationError, DataError
from graft.training.model.family import FAMILIES
from graft.training.objective import catalog
from graft.training.objective.masked import MaskedObjective, choose_words
from graft.training.objective.replaced_token import ReplacedTokenObjective
from graft.training.objective.sentence_pairs import SentencePairObjective
from graft.training.objective.span_boundary import choose_spans
from graft.training.objective.span_corruption import SpanCorruptionObjective, num_sentinels
from graft.training.objective.vocabulary import Vocabulary
from tests.training.objective.vocabularies import FIRST_WORD, SENTINELS, documents, generator, vocabulary

SEEDS = st.integers(0, 10_000)


@given(st.integers(1, 12), SEEDS)
def test_every_row_asks_for_a_token(length: int, seed: int) -> None:
    """T16. As BERT's own code, which takes one of the shortest text."""
    texts, words = documents(*[length] * 4, seed=seed), vocabulary()
    for made in (
        MaskedObjective(vocabulary=words, length=16).collate(texts, generator(seed)).labels["masked"],
        MaskedObjective(vocabulary=words, length=16, whole_word=True).collate(texts, generator(seed)).labels["masked"],
        ReplacedTokenObjective(vocabulary=words, length=16).collate(texts, generator(seed)).labels["generator"],
        SentencePairObjective(vocabulary=words, length=16, question="sentence_order")
        .collate(texts, generator(seed))
        .labels["masked"],
    ):
        assert bool((made != IGNORED).any(1).all())


@given(st.integers(1, 6), SEEDS)
def test_a_short_text_has_a_span_of_one_token(length: int, seed: int) -> None:
    ids = [FIRST_WORD] * length  # words of one token each
    (span,) = choose_spans(ids, vocabulary(), 0.15, generator(seed))
    assert span[1] - span[0] in (1, 2)


@pytest.mark.parametrize("length", [32, 300])
def test_wrong_second_sentences_come_from_another_document(length: int) -> None:
    """T17: even where a batch is a single row, both labels come, and as often."""
    pieces: list[list[Sentences]] = [
        [[[100 * number + 15 + at] * 3 for at in range(4)] for _ in range(3)] for number in range(5)
    ]
    words = Vocabulary(
        pad_id=0,
        mask_id=3,
        cls_id=1,
        sep_id=2,
        special_V=torch.arange(600) < 15,
        continues_V=torch.zeros(600).bool(),
    )
    objective = SentencePairObjective(vocabulary=words, length=length, question="next_sentence", rate=0.0)
    data = TextRows(
        pieces, objective.collate, others=Others(pieces, what="the text"), rows_per_batch=1, batches_per_step=1, seed=0
    )
    labels: Counter[int] = Counter()
    for step in range(300):
        (batch,) = data.batches(step)
        ids = torch.where(batch.labels["masked"] != IGNORED, batch.labels["masked"], batch.inputs["input_ids"])[0]
        kinds = batch.inputs["token_type_ids"][0]
        first, second = ({int(one) // 100 for one in ids[(kinds == kind) & (ids >= 15)]} for kind in (0, 1))
        label = int(batch.labels["next_sentence"])
        assert len(first) == len(second) == 1 and (first == second) == (label == 0)
        labels[label] += 1
    assert labels[0] == pytest.approx(150, abs=30) and set(labels) == {0, 1}
    with pytest.raises(DataError, match="the text is a single one: give several"):
        Others(pieces[:1], what="the text")


def test_a_word_is_a_run_of_letters_whatever_the_vocabulary_marks() -> None:
    """Reading 23: the first word of a line, punctuation, and a script without blanks."""
    text = "one two,three\nfour é中文字 x_1"
    tokenizer = train_tokenizer([text] * 4, vocab_size=270, context_tokens=32)  # nearly bytes
    ((ids,),) = encode_whole([text], tokenizer)
    begins = Vocabulary.of(tokenizer).begins_word(torch.tensor([ids]))[0].tolist()
    words: list[list[int]] = []
    for one, is_first in zip(ids, begins, strict=True):
        if is_first:
            words.append([])
        words[-1].append(one)
    said = [tokenizer.decode(word) for word in words]
    assert "".join(said) == text
    assert [word.strip() for word in said if word.strip()] == [
        "one",
        "two",
        ",",
        "three",
        "four",
        "é",
        "中",
        "文",
        "字",
        "x_1",
    ]


def test_the_first_word_of_a_line_is_masked_by_itself() -> None:
    tokenizer = train_tokenizer(["alpha\nbeta"] * 4, vocab_size=300, context_tokens=32)
    ((ids,),) = encode_whole(["alpha\nbeta"], tokenizer)
    chosen = {
        tuple(choose_words(torch.tensor([ids]), Vocabulary.of(tokenizer), 0.3, generator(seed))[0].tolist())
        for seed in range(60)
    }
    of_words = [tokenizer.decode([one for one, is_one in zip(ids, row, strict=True) if is_one]) for row in chosen]
    assert {"alpha", "beta"} <= set(of_words) and not any(word in of_words for word in ("alph", "bet", "a"))


def test_rows_that_need_more_sentinels_are_refused_with_the_longest_that_fit() -> None:
    """T19."""
    words = vocabulary()  # ten sentinels
    with pytest.raises(ConfigurationError, match=r"max_length is 300, .* enough for rows of") as caught:
        SpanCorruptionObjective(vocabulary=words, length=300).check_length()
    longest = int(str(caught.value).split("rows of ")[1].split()[0])
    for length in (longest, longest + 1):
        objective = SpanCorruptionObjective(vocabulary=words, length=length)
        if length == longest:
            objective.check_length()
            objective.collate(documents(400), generator())
        else:
            with pytest.raises(ValueError, match=f"and {len(SENTINELS)} sentinels"):
                objective.collate(documents(400), generator())


@pytest.mark.parametrize("length", [2048, 4096])
def test_a_tokenizer_of_the_texts_own_has_as_many_sentinels_as_its_rows_need(length: int) -> None:
    tokenizer = train_tokenizer(
        ["some text"] * 3, vocab_size=600, context_tokens=length, num_sentinels=num_sentinels(length)
    )
    objective: Any = catalog.objective("span_corruption", family=FAMILIES["t5"], tokenizer=tokenizer, length=length)
    document = [[one % 200 + 270 for one in range(length)]]
    batch = objective.collate([document], generator())
    num_spans = sum(int(one) in set(objective.vocabulary.sentinel_ids) for one in batch.labels["tokens"][0])
    assert num_spans == round(round((length - 1) * 0.15) / 3)
    assert flat(document)
