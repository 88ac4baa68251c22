"""How text is spelled in a base's tokens, alike in training and in serving.

Control tokens (``<|im_end|>``, ``</s>``, ``<mask>`` …) count where the chat template writes them, and in a raw prompt,
whose author writes the whole of it. What is said in a conversation or stands in a document is text: a control token's
name in it is spelled as other words are, so that nobody forges a turn, an end or a mask by writing its name.
"""

from __future__ import annotations

import json
import re
import secrets
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

_SEAMS = ("\n", ".", "a", " ")
"""What may stand before a text that goes on: the first after which the text's own tokens begin anew is taken."""


class Unspellable(ValueError):
    """A control token's name in a text, and a tokenizer that has no other way to spell it."""

    exit_code = 2


class Spelling:
    """Token ids of text, by a Hugging Face tokenizer.

    Ids of a text are those of the whole text encoded once: a tokenizer may spell a word otherwise at a text's beginning
    than within it, so nothing is put together from pieces.
    """

    def __init__(self, tokenizer: Any, stop_ids: Iterable[int] = ()) -> None:
        """``stop_ids`` are control tokens, too: some bases stop at one that their tokenizer does not call special."""
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder
        stops = frozenset(stop_ids)
        self._controls: dict[str, int] = {
            token.content: id for id, token in added.items() if token.special or id in stops
        }
        # Such a token is also found in what the normalizer makes of other characters.
        self._found_normalized = any(added[id].normalized for id in self._controls.values())
        self._mark, self._inner, self._claim = (secrets.token_hex(6) for _ in range(3))
        names = "|".join(re.escape(name) for name in sorted(self._controls, key=len, reverse=True))
        self._name = re.compile(names or r"(?!)")
        self._mark_or_name = re.compile(rf"<{self._mark}\.(\d+)>|({names or '(?!)'})")
        self._claimed = re.compile(rf"<{self._claim}\.(\d+)>")
        self._names = list(self._controls)
        self._places = {name: place for place, name in enumerate(self._names)}

    def prompt(self, text: str) -> list[int]:
        """Ids of a raw prompt: what the tokenizer puts before a text stands there once, and no end after it."""
        return self._begun(self._plain(text))

    def answered(self, prompt: str, answer: str) -> tuple[list[int], list[int]]:
        """Ids of a raw prompt, and those that an answer's text appends to them. Raises ``Unspellable``."""
        before, ids = self.seamed(prompt, self.marked(answer))
        return self._begun(before), ids

    def seamed(self, prompt: str, learned: str) -> tuple[list[int], list[int]]:
        """Ids of a marked prompt, and those that a marked text appends to them. Raises ``Unspellable``.

        They are the ids of both together wherever those begin with the prompt's. Where a token would straddle the
        seam, the prompt's ids stay what a server is sent, and the text's are its own.
        """
        before, together = self.rendered(prompt), self.rendered(prompt + learned)
        if together[: len(before)] == before:
            return before, together[len(before) :]
        return before, self._going_on(learned)

    def continuation(self, text: str) -> list[int]:
        """Ids of a raw text that goes on after another: nothing is put before it, not even a blank."""
        return self._going_on(text)

    def text(self, text: str) -> list[int]:
        """Ids of a document, to which nothing is added: control tokens' names are text. Raises ``Unspellable``."""
        return self.rendered(self.marked(text))

    def texts(self, texts: Sequence[str]) -> list[list[int]]:
        """The same for many, at once where none of them names a control token. Raises ``Unspellable``."""
        if not texts:
            return []
        if self._found_normalized or any(self._name.search(text) for text in texts):
            return [self.text(text) for text in texts]
        ids: list[list[int]] = self._tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def pieces(self, text: str, ends: Sequence[int]) -> list[list[int]]:
        """Ids of a document, cut at places in its text: a token belongs to the piece in which it ends. Whole where the
        tokenizer does not know where its tokens stand. Raises ``Unspellable``.
        """
        if (found := self.placed(text)) is None:
            return [self.text(text)]
        made: list[list[int]] = [[] for _ in range(len(ends) + 1)]
        piece = 0
        for id, (_, end) in zip(*found, strict=True):
            piece = max(piece, bisect_left(ends, end))
            made[piece].append(id)
        return made

    def placed(self, text: str) -> tuple[list[int], list[tuple[int, int]]] | None:
        """Ids of a document, and of each the places in the text where it begins and ends: a blank before a word may be
        among them. None where the tokenizer does not know them. Raises ``Unspellable``.
        """
        if not getattr(self._tokenizer, "is_fast", False):
            return None
        if self._found_normalized or self._name.search(text):
            backend, ids_of = self._spelling  # in which the names of control tokens are words
            encoding = backend.encode(text, add_special_tokens=False)
            return [ids_of.get(id, id) for id in encoding.ids], list(encoding.offsets)
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return list(found["input_ids"]), list(found["offset_mapping"])

    def marked(self, value: Any) -> Any:
        """The same text, or messages, with a mark in place of each control token's name: the chat template carries it
        along, and ``rendered`` spells it.
        """
        if isinstance(value, str):
            return self._name.sub(lambda found: f"<{self._mark}.{self._places[found[0]]}>", value)
        if isinstance(value, Mapping):
            return {key: self.marked(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.marked(one) for one in value]
        return value

    def claimed(self, template: str) -> str:
        """A template with a claim in place of each control token's name that it writes, for ``settled``."""
        return self._name.sub(lambda found: f"<{self._claim}.{self._places[found[0]]}>", template)

    def settled(self, text: str) -> str:
        """What claimed templates and foreign values have become together: claims are control tokens' names again, and
        every other name, also one that stands across a seam, has a mark in its place. For ``rendered``.
        """
        marked: str = self.marked(text)
        return self._claimed.sub(lambda found: self._names[int(found[1])], marked)

    def marked_prompt(self, text: str) -> list[int]:
        """Ids of a raw prompt in which foreign names are marked. Raises ``Unspellable``."""
        return self._begun(self.rendered(text))

    def unmarked(self, text: str) -> str:
        """A text as it was before it was marked."""
        return self._mark_or_name.sub(lambda found: self._names[int(found[1])] if found[1] else found[0], text)

    def rendered(self, text: str) -> list[int]:
        """Ids of what a chat template has made of marked messages: names that the template wrote are control tokens.
        Nothing is added. Raises ``Unspellable``.
        """
        if not self._found_normalized and f"<{self._mark}." not in text:
            return self._plain(text)
        backend, ids_of = self._spelling
        inner = self._mark_or_name.sub(
            lambda found: self._names[int(found[1])] if found[1] else self._inner_name(found[2]), text
        )
        ids: list[int] = backend.encode(inner, add_special_tokens=False).ids
        return [ids_of.get(id, id) for id in ids] if ids_of else ids

    def prepare(self) -> None:
        """Makes now what the first named control token would need: for large vocabularies it takes a second."""
        if hasattr(self._tokenizer, "backend_tokenizer"):
            _ = self._spelling

    def _plain(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return list(ids)

    def _begun(self, ids: list[int]) -> list[int]:
        return ids if ids[: len(self._begin)] == self._begin else self._begin + ids

    def _going_on(self, text: str) -> list[int]:
        for seam in _SEAMS:
            before, together = self._plain(seam), self.rendered(seam + text)
            if together[: len(before)] == before and len(together) > len(before):
                return together[len(before) :]
        return self.rendered(text)

    @cached_property
    def _begin(self) -> list[int]:
        """What the tokenizer puts before every text."""
        bare, whole = self._plain("a"), list(self._tokenizer("a", verbose=False)["input_ids"])
        starts = range(len(whole) - len(bare) + 1)
        return whole[: next((at for at in starts if whole[at : at + len(bare)] == bare), 0)]

    def _inner_name(self, name: str) -> str:
        return f"<{self._inner}.{self._places[name]}>"

    @cached_property
    def _spelling(self) -> tuple[Any, Mapping[int, int]]:
        """The tokenizer with secret names for its control tokens, and where it gave an added token another id, both."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise Unspellable(
                "a text names a control token, which this base's tokenizer can spell only as the token itself: add its "
                "tokenizer.json, or take the name out of the text"
            )
        values = json.loads(backend.to_str())
        values |= {"post_processor": None, "truncation": None, "padding": None}
        inner = {name: self._inner_name(name) for name in self._controls}
        ids = {token["content"]: token["id"] for token in values["added_tokens"]}
        _rename_vocabulary(values["model"], inner)
        for token in values["added_tokens"]:
            token["content"] = inner.get(token["content"], token["content"])
        made = type(backend).from_str(json.dumps(values))
        given = {made.token_to_id(inner.get(name, name)): id for name, id in ids.items()}
        return made, {now: id for now, id in given.items() if now != id}


def _rename_vocabulary(model: dict[str, Any], names: Mapping[str, str]) -> None:
    """Gives the same ids to other names. Merges that make or use one are left out: they would make the token itself."""
    if "merges" in model:
        model["merges"] = [
            [left, right] for left, right in model["merges"] if names.keys().isdisjoint((left, right, left + right))
        ]
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(name, name): id for name, id in vocabulary.items()}
    else:
        model["vocab"] = [[names.get(name, name), score] for name, score in vocabulary]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
