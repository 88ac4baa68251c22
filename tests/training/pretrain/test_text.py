"""A text is tokenised once in a run, whatever reads it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from graft.adapters.text.spelling import Spelling
from graft.training.batch.text_rows import PackedText, TextRows
from graft.training.corpus.byte_pairs import train_tokenizer
from graft.training.pretrain import text as texts
from graft.training.pretrain.assembly import Assembly
from graft.training.pretrain.settings import PretrainSettings
from graft.training.pretrain.sources import documents_of
from tests.training.pretrain.making import ALONE, job


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_every_document_is_tokenised_once(
    family: str, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it is trained on, measured on twice, and counted for the models that only count."""
    validation = tmp_path / "validation.jsonl"
    validation.write_text("".join(json.dumps({"text": f"{one}. {one} {one}"}) + "\n" for one in ("abcd", "efgh")) * 9)
    seen: Counter[str] = Counter()
    whole, pieces = Spelling.texts, Spelling.pieces

    def counted_whole(self: Spelling, texts: list[str]) -> list[list[int]]:
        seen.update(texts)
        return whole(self, texts)

    def counted_pieces(self: Spelling, text: str, ends: list[int]) -> list[list[int]]:
        seen.update([text])
        return pieces(self, text, ends)

    monkeypatch.setattr(Spelling, "texts", counted_whole)
    monkeypatch.setattr(Spelling, "pieces", counted_pieces)
    metrics = job(tmp_path, text, family=family, validation=str(validation), eval_steps=3).execute(ALONE, resume=False)
    assert any(name.startswith("trigram") for name in metrics)
    assert seen == Counter(documents_of([str(text), str(validation)]))


@pytest.mark.parametrize(("family", "kind"), [("llama", PackedText), ("bert", TextRows)])
def test_documents_are_given_back_whole(family: str, kind: type, text: Path) -> None:
    documents = documents_of([str(text)])
    tokenizer = train_tokenizer(documents, vocab_size=384, context_tokens=32)
    settings = PretrainSettings(family=family, max_length=32, hidden_size=32, num_attention_heads=2)
    rows = texts.rows(Assembly.of(settings, tokenizer), documents)
    assert isinstance(rows, kind)
    assert list(rows.documents()) == [tokenizer(one, add_special_tokens=False)["input_ids"] for one in documents]
