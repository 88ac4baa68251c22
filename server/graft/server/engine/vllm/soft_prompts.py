"""Soft prompts in memory, and prompts as vLLM takes them: token ids, with a soft prompt's embeddings before them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import torch
from vllm.inputs.engine import EmbedsInput, TokensInput, embeds_input, tokens_input

from graft.adapters.folder.soft_prompt import read_soft_prompt
from graft.server.engine.engine import EngineAdapter, EngineDied, LoadFailed

Input: TypeAlias = TokensInput | EmbedsInput


class SoftPrompts:
    """The matrices of the versions that are loaded, (virtual tokens, width) each, by digest.

    They travel with each request, so that the engine's process holds none of them, and vLLM's prefix cache tells blocks
    apart by the embeddings in them.
    """

    def __init__(self, *, dtype: torch.dtype, width: int, max_tokens: int) -> None:
        """`dtype` and `width` are those of the base's own embeddings; a prompt has `max_tokens` at most, which is 0
        where none can be served.
        """
        self._dtype = dtype
        self._width = width
        self.max_tokens = max_tokens
        self._loaded: dict[str, tuple[int, torch.Tensor]] = {}

    def load(self, adapter: EngineAdapter) -> None:
        """Read the version's file. Raises `LoadFailed`. From any thread."""
        prompt_ND = self._read(adapter.path)
        if prompt_ND.shape != (adapter.num_virtual_tokens, self._width):
            raise LoadFailed(
                f"{adapter.digest} has {list(prompt_ND.shape)} numbers; {adapter.num_virtual_tokens} virtual tokens of "
                f"this base have {[adapter.num_virtual_tokens, self._width]}: it was trained on another one"
            )
        if len(prompt_ND) > self.max_tokens:
            raise LoadFailed(
                f"{adapter.digest} has {len(prompt_ND)} virtual tokens, and {self.max_tokens} can stand before a "
                "prompt here: serve with a longer context, or train with fewer"
            )
        self._loaded[adapter.digest] = adapter.engine_id, prompt_ND

    def unload(self, adapter: EngineAdapter) -> None:
        """Forget the version, where it is loaded."""
        self._loaded.pop(adapter.digest, None)

    @property
    def engine_ids(self) -> frozenset[int]:
        """Of all that are loaded."""
        return frozenset(engine_id for engine_id, _ in self._loaded.values())

    def input(
        self,
        ids: Sequence[int],
        *,
        adapter: EngineAdapter | None,
        cache_salt: str | None,
        text: str | None = None,
    ) -> Input:
        """A prompt of `ids`, whose text is `text`. Raises `EngineDied` where the soft prompt did not come back with a
        new engine.
        """
        if adapter is None or not adapter.num_virtual_tokens:
            return tokens_input(list(ids), prompt=text, cache_salt=cache_salt)
        if adapter.digest not in self._loaded:
            raise EngineDied(f"{adapter.digest} left with an engine that was replaced: try again")
        num_virtual = adapter.num_virtual_tokens
        return embeds_input(
            self._loaded[adapter.digest][1],
            prompt=text,
            cache_salt=cache_salt,
            # Virtual tokens have no ids. One of the prompt's own in their places changes nothing: a repetition penalty
            # asks whether a token stands in the prompt, not how often, and the text is decoded from the prompt's end.
            prompt_token_ids=[ids[0]] * num_virtual + list(ids),
            is_token_ids=[False] * num_virtual + [True] * len(ids),
        )

    def _read(self, folder: Path) -> torch.Tensor:
        try:
            return torch.from_numpy(read_soft_prompt(folder)).to(self._dtype)
        except (OSError, ValueError) as error:
            raise LoadFailed(f"the soft prompt in {folder} cannot be read: {error}") from error


def num_virtual_tokens(adapter: EngineAdapter | None) -> int:
    """Tokens that stand before each prompt of the adapter's."""
    return 0 if adapter is None else adapter.num_virtual_tokens
