"""vLLM's tokenizer, spelling text as the rest of the house does."""

from __future__ import annotations

import copy
from typing import Any

from graft.adapters.spelling import Spelling


def spell_as_trained(tokenizer: Any) -> None:
    """Changes a tokenizer in place, as vLLM itself does: what it makes of raw prompts and of chats is `Spelling`'s."""
    plain = copy.copy(tokenizer)
    spelling = Spelling(plain)
    spelling.prepare()

    class SpelledTokenizer(type(tokenizer)):  # type: ignore[misc]
        def apply_chat_template(self, conversation: Any, *args: Any, tokenize: bool = True, **options: Any) -> Any:
            given = {name: spelling.marked(options.pop(name)) for name in ("tools", "documents") if name in options}
            text = plain.apply_chat_template(spelling.marked(conversation), *args, tokenize=False, **given, **options)
            return spelling.rendered(text) if tokenize else text

        def __call__(self, text: Any = None, *args: Any, add_special_tokens: bool = True, **options: Any) -> Any:
            if not isinstance(text, str) or args or options.get("return_offsets_mapping"):
                return plain(text, *args, add_special_tokens=add_special_tokens, **options)
            ids = spelling.prompt(text) if add_special_tokens else spelling.rendered(text)
            most = options.get("max_length") if options.get("truncation") else None
            if most is not None and len(ids) > most:
                ids = ids[-most:] if plain.truncation_side == "left" else ids[:most]
            return {"input_ids": ids}

    tokenizer.__class__ = SpelledTokenizer
