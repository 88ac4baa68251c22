"""Heads on a real engine against transformers and peft: alone, beside texts in a batch, while versions come and go."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from graft.adapters.base.base import Base
from graft.adapters.folder.head import read_head
from graft.server.engine.engine import EngineAdapter, InvalidRequest, Sampling
from graft.server.engine.tokenizer.tokenizer import Tokenizer
from graft.server.engine.vllm.engine import VllmEngine
from tests.server.engine.making import peft_logits, write_classifier

TEXTS = ("a film that was good", "the fox went into the old garden", "x", "a story about the vines " * 8)
_numbers = itertools.count()


def classifier(base: Base, folder: Path, number: int, num_labels: int) -> EngineAdapter:
    write_classifier(folder, base, num_labels=num_labels, seed=number)
    head = read_head(folder, num_labels)
    return EngineAdapter(digest=f"sha256:head-{number}", engine_id=2000 + number, path=folder, head=head)


@pytest.fixture(scope="session")
def rows(base: Base) -> list[list[int]]:
    tokenizer = Tokenizer.from_folder(base.path)
    return [tokenizer.encode(text) for text in TEXTS]


@pytest.fixture(scope="session")
def heads(base: Base, tmp_path_factory: pytest.TempPathFactory) -> tuple[EngineAdapter, ...]:
    """Of one output, two and more than a reply's log-probabilities usually are."""
    root = tmp_path_factory.mktemp("heads")
    return tuple(classifier(base, root / str(num), num, num) for num in (1, 2, 77))


@pytest.fixture(scope="session")
def expected(base: Base, heads: tuple[EngineAdapter, ...], rows: list[list[int]]) -> list[list[list[float]]]:
    return [peft_logits(base, one.path, rows, one.head.num_labels) for one in heads if one.head is not None]


@pytest_asyncio.fixture
async def loaded(engine: VllmEngine, heads: tuple[EngineAdapter, ...]) -> AsyncIterator[tuple[EngineAdapter, ...]]:
    for one in heads:
        await engine.load(one)
    yield heads
    for one in heads:
        await engine.unload(one)


async def said(engine: VllmEngine, row: Sequence[int], adapter: EngineAdapter) -> tuple[float, ...]:
    return (await engine.classify(row, request_id=f"head-{next(_numbers)}", adapter=adapter)).logits


async def text(engine: VllmEngine, row: Sequence[int], adapter: EngineAdapter | None) -> list[tuple[int, float]]:
    sampling = Sampling(max_tokens=6, ignore_eos=True, logprobs=2)
    stream = engine.generate(row, sampling, request_id=f"head-{next(_numbers)}", adapter=adapter)
    return [(one.token_id, one.logprob) async for delta in stream for one in delta.logprobs]


async def test_outputs_are_pefts_alone_and_in_a_batch_with_texts(
    engine: VllmEngine,
    loaded: tuple[EngineAdapter, ...],
    expected: list[list[list[float]]],
    rows: list[list[int]],
    adapters: tuple[EngineAdapter, ...],
) -> None:
    for one, logits in zip(loaded, expected, strict=True):
        for row, right in zip(rows, logits, strict=True):
            assert await said(engine, row, one) == pytest.approx(right, abs=2e-4)
    await engine.load(adapters[1])
    try:
        alone = [await text(engine, row, who) for row in rows for who in (None, adapters[1])]
        classes = [said(engine, row, one) for _ in range(3) for one in loaded for row in rows]
        texts = [text(engine, row, who) for row in rows for who in (None, adapters[1])]
        found = await asyncio.gather(*classes, *texts)
    finally:
        await engine.unload(adapters[1])
    right = [one for logits in expected for one in logits] * 3
    for one, logits in zip(found, right, strict=False):
        assert one == pytest.approx(logits, abs=2e-4)
    for one, before in zip(found[len(right) :], alone, strict=True):
        assert [token for token, _ in one] == [token for token, _ in before]
        assert [number for _, number in one] == pytest.approx([number for _, number in before], abs=2e-4)


async def test_who_leaves_a_slot_takes_its_head_along(
    engine: VllmEngine, base: Base, rows: list[list[int]], tmp_path: Path, adapters: tuple[EngineAdapter, ...]
) -> None:
    """Six versions through four slots, each asked while the next one comes: an answer is its own version's."""
    versions = [classifier(base, tmp_path / str(number), 10 + number, 2 + number % 2) for number in range(6)]
    right = [peft_logits(base, one.path, rows[:1], one.head.num_labels)[0] for one in versions if one.head]
    asked = []
    for before, one in itertools.pairwise([None, *versions]):
        coming = asyncio.ensure_future(engine.load(one))
        if before is not None:
            asked.append(await asyncio.gather(*(said(engine, rows[0], before) for _ in range(4))))
        await coming
        if before is not None:
            await engine.unload(before)
    asked.append([await said(engine, rows[0], versions[-1])])
    await engine.unload(versions[-1])
    for found, logits in zip(asked, right, strict=True):
        for one in found:
            assert one == pytest.approx(logits, abs=2e-4)
    await engine.load(adapters[0])  # a text's adapter in a slot that had a head
    try:
        assert len(await text(engine, rows[0], adapters[0])) == 6
    finally:
        await engine.unload(adapters[0])


async def test_what_cannot_be_classified(engine: VllmEngine, loaded: tuple[EngineAdapter, ...]) -> None:
    info = await engine.info()
    assert info.max_labels == 383  # an id behind them is told beside them
    with pytest.raises(InvalidRequest, match="the context holds"):
        await said(engine, [5] * info.max_model_tokens, loaded[0])
    assert len(await said(engine, [5] * (info.max_model_tokens - 1), loaded[0])) == 1
