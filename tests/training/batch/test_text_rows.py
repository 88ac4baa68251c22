"""Texts as rows: nothing is lost or doubled, and every step can be made again."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from graft.training.batch.data import Share
from graft.training.batch.order import BatchSize
from graft.training.batch.packing import Encoded, PackedBatch, batch_of_rows
from graft.training.batch.text_rows import PackedText, TextRows
from graft.training.corpus.byte_pairs import train_tokenizer
from graft.training.corpus.texts import SENTENCE_END, encode, encode_whole, flat, read_documents, windows
from graft.training.errors import DataError
from graft.training.objective.masked import MaskedObjective
from tests.training.objective.vocabularies import documents, vocabulary


def test_wikitext_is_split_into_its_articles(tmp_path: Path) -> None:
    path = tmp_path / "wiki.txt"
    path.write_text(" \n = First = \n \n Some text . \n = = A section = = \n More . \n = Second = \n Other .\n")
    first, second = read_documents(path)
    assert first == "= First =\nSome text .\n= = A section = =\nMore ."
    assert second == "= Second =\nOther ."


@pytest.mark.parametrize(("content", "problem"), [(b"", "no text"), (b" \n\n", "no text"), (b"\xff", "UTF-8")])
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=problem):
        read_documents(path)
    with pytest.raises(DataError, match=r"missing\.txt cannot be read"):
        read_documents(tmp_path / "missing.txt")


def test_sentences_are_kept_apart(tokenizer: PreTrainedTokenizerFast) -> None:
    (document,) = encode(["One. Two is here! Three?\nA line"], tokenizer)
    assert [tokenizer.decode(sentence).strip() for sentence in document] == ["One.", "Two is here!", "Three?", "A line"]


SPOKEN = "Alpha beta. Gamma delta!\nNext  line </s> here.\n\n    indented? Yes.\n第一句。第二句！ end"


def metaspace() -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    inner.decoder = decoders.Metaspace(prepend_scheme="first")
    inner.train_from_iterator(
        [SPOKEN] * 3, trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", "</s>"], show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", eos_token="</s>")


@pytest.mark.parametrize("kind", ["characters", "bytes", "metaspace"])
def test_sentences_together_are_the_document(kind: str, tokenizer: PreTrainedTokenizerFast) -> None:
    """T18: blanks between sentences are what a model sees; a control token's name is text here, too."""
    made = {
        "characters": lambda: tokenizer,
        "bytes": lambda: train_tokenizer([SPOKEN] * 3, vocab_size=320, context_tokens=64),
        "metaspace": metaspace,
    }[kind]()
    (document,), ((whole,),) = encode([SPOKEN], made), encode_whole([SPOKEN], made)
    assert flat(document) == whole and not set(whole) & set(made.all_special_ids)
    assert made.decode(flat(document)) == SPOKEN
    if kind == "characters":  # no token reaches over a sentence's end
        begun = ["Alpha", "Gamma", "Next", "indented?", "Yes.", "第一句", "第二句", "end"]
        sentences = [made.decode(sentence).strip() for sentence in document]
        assert [one[: len(word)] for one, word in zip(sentences, begun, strict=True)] == begun


SLOWLY = re.compile(r"(?<=[.!?。！？])\s+(?=\S)|(?<=[。！？])(?=[^\s。！？])|\n+(?=.)")
"""Where sentences end, as one would write it who never meets 100,000 newlines."""


@given(st.text(alphabet="a.。!\n \r\t", max_size=30))
def test_sentences_end_where_the_slow_rule_says(text: str) -> None:
    slow, fast = ([match.span() for match in rule.finditer(text)] for rule in (SLOWLY, SENTENCE_END))
    assert fast == slow


@pytest.mark.parametrize("text", ["a\n{}", ".\n{}", "。{}", "{}", "a{}b", ". {}"])
def test_many_newlines_are_looked_at_once(text: str) -> None:
    """Four times as many take four times as long, not sixteen."""

    def seconds(num: int) -> float:
        whole = text.format("\n" * num)
        started = time.process_time()
        for _ in SENTENCE_END.finditer(whole):
            pass
        return time.process_time() - started

    fewer, more = (min(seconds(num) for _ in range(5)) for num in (20_000, 80_000))
    assert more < 8 * fewer


@given(st.lists(st.integers(1, 40), max_size=12), st.integers(1, 30))
def test_windows_lose_nothing_and_keep_to_their_room(sizes: list[int], room: int) -> None:
    document = [list(range(100 * at, 100 * at + size)) for at, size in enumerate(sizes)]
    pieces = list(windows(document, room))
    assert [one for piece in pieces for one in flat(piece)] == flat(document)
    assert all(0 < len(flat(piece)) <= room for piece in pieces)


def packed(lengths: list[int], **options: int) -> PackedText:
    settings = {"length": 16, "rows_per_batch": 2, "batches_per_step": 2, **options}
    return PackedText(documents(*lengths), end_id=2, pad_id=0, seed=1, **settings)


@given(st.lists(st.integers(1, 60), min_size=10, max_size=20))
def test_an_epoch_reads_every_full_row_once(lengths: list[int]) -> None:
    data = packed(lengths, batches_per_step=1)
    batches = [batch for step in range(data.steps_per_epoch) for batch in data.batches(step)]
    rows = [row.tolist() for batch in batches for row in batch.input_ids_BL]
    stream = [one for document in documents(*lengths) for one in [*flat(document), 2]]
    expected = [stream[at : at + 16] for at in range(0, len(stream), 16)]
    expected[-1] += [0] * (16 - len(expected[-1]))
    assert sorted(rows[: len(expected)]) == sorted(expected)


@given(st.lists(st.integers(1, 40), min_size=3, max_size=12))
def test_rows_are_those_that_are_packed_document_by_document(lengths: list[int]) -> None:
    """Slowly: each row's pieces of documents, laid side by side by ``batch_of_rows``."""
    data = packed(lengths, batches_per_step=1, rows_per_batch=1)
    rows: list[list[Encoded]] = [[]]
    room = 16
    for document in documents(*lengths):
        ids = [*flat(document), 2]
        while ids:
            piece, ids = ids[:room], ids[room:]
            rows[-1].append(Encoded(input_ids=piece, supervised=[True] * len(piece)))
            room -= len(piece)
            if room == 0:
                rows.append([])
                room = 16
    expected = batch_of_rows([row for row in rows if row], length=16, pad_id=0)
    (found,) = data.in_order(1000)
    for name in ("input_ids_BL", "labels_BL", "position_ids_BL", "document_BL"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


@given(st.integers(1, 12), st.integers(0, 12))
def test_the_batch_size_rises_to_its_value_and_no_row_is_skipped(batches: int, warmup_steps: int) -> None:
    size = BatchSize(batches_per_step=batches, warmup_steps=warmup_steps)
    sizes = [size.at(step) for step in range(20)]
    assert sizes == sorted(sizes) and sizes[warmup_steps] == batches and (warmup_steps == 0 or sizes[0] == 1)
    assert [size.before(step) for step in range(20)] == [sum(sizes[:step]) for step in range(20)]


@pytest.mark.parametrize("num", [1, 2, 4, 8])
def test_reading_14_any_number_of_processes_reads_what_one_reads(num: int) -> None:
    """While the batch grows, too: a training that goes on elsewhere skips and repeats nothing. Each has as many."""

    def asked(batches: list[PackedBatch]) -> list[list[int]]:
        return [batch.input_ids_BL.flatten().tolist() for batch in batches if batch.num_labels]

    data = PackedText(
        documents(*[500] * 20),
        length=8,
        end_id=1,
        pad_id=0,
        rows_per_batch=1,
        batches_per_step=8,
        warmup_steps=13,
        seed=0,
    )
    for step in range(16):
        dealt = [data.batches(step, Share(index=index, num=num)) for index in range(num)]
        assert len({len(own) for own in dealt}) == 1
        inside = [own[turn] for turn in range(len(dealt[0])) for own in dealt]
        assert asked(inside) == asked(data.batches(step))


@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_what_is_dealt_is_dealt_once_and_alike(num_batches: int, num: int, least: int, multiple: int) -> None:
    dealt = [
        Share(index=index, num=num, least=least, multiple=multiple).alike(range(num_batches)) for index in range(num)
    ]
    (each,) = {len(own) for own in dealt}
    assert each >= least and each % multiple == 0
    assert sorted(one for own in dealt for one in own if one is not None) == list(range(num_batches))


@given(
    st.integers(1, 40), st.integers(1, 3), st.integers(1, 5), st.integers(0, 30), st.sampled_from([0.1, 0.5, 1, 1.5, 3])
)
def test_so_many_epochs_take_the_fewest_steps_that_read_all_rows(
    num_rows: int, rows_per_batch: int, batches: int, warmup_steps: int, epochs: float
) -> None:
    """R6. Slowly: one step after the other."""
    num_rows += rows_per_batch * batches  # one step's at least
    data = TextRows(
        [documents(*[4] * num_rows)],
        lambda rows, generator: rows,
        rows_per_batch=rows_per_batch,
        batches_per_step=batches,
        warmup_steps=warmup_steps,
        seed=0,
    )
    read, steps = 0, 0
    while read < epochs * num_rows:
        read += sum(map(len, data.batches(steps)))  # type: ignore[arg-type]
        steps += 1
    assert data.num_steps(epochs) == steps


def test_shares_together_are_the_step_and_epochs_differ() -> None:
    data = packed([500])

    def ids(batches: list[PackedBatch]) -> list[list[int]]:
        return [batch.input_ids_BL.flatten().tolist() for batch in batches]

    whole = ids(data.batches(3))
    halves = [ids(data.batches(3, Share(index=index, num=2))) for index in range(2)]
    assert whole == [halves[0][0], halves[1][0]] == ids(data.batches(3))
    assert ids(data.batches(0)) != ids(data.batches(data.steps_per_epoch))


def test_a_micro_batch_is_masked_alike_whoever_makes_it_and_anew_in_each_epoch() -> None:
    objective = MaskedObjective(vocabulary=vocabulary(), length=32)
    data = TextRows([documents(*[30] * 8)], objective.collate, rows_per_batch=2, batches_per_step=2, seed=1)
    whole = data.batches(1)
    (second,) = data.batches(1, Share(index=1, num=2))
    assert torch.equal(whole[1].inputs["input_ids"], second.inputs["input_ids"])
    assert not torch.equal(whole[0].labels["masked"], data.batches(3)[0].labels["masked"])


def test_too_little_text_says_so() -> None:
    with pytest.raises(DataError, match="the text makes 2 rows, and a step takes 4: give more text"):
        packed([30])
