"""What of a base can be adapted so that a server takes the adapter: known before its weights are loaded."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from torch import nn
from transformers import PreTrainedModel

from graft.adapters.base.base import Base
from graft.training.errors import ConfigurationError
from graft.training.model.configuration import num_positions
from graft.training.model.structure import empty_decoder, leftovers, mostly_outside

_LEARNED_POSITIONS = ("wpe", "embed_positions", "position_embeddings")


@dataclass(frozen=True, kw_only=True)
class Adaptable:
    """A base as a training of adapters sees it."""

    name: str
    path: Path
    """Of its folder, whose weights nothing here reads."""
    model_type: str
    layers: Mapping[str, tuple[int, int]]
    """(outputs, inputs) of the linear layers that a server takes adapters on, by their paths."""
    others: Mapping[str, bool]
    """Paths of all that is there beside them; true for the output head."""
    embeddings: str
    """The path of the input embeddings."""
    num_embeddings: int
    width: int
    """Numbers of an embedding."""
    is_tied: bool
    """Whether the output head is the input embeddings."""
    parameters: tuple[str, ...]
    """Names of all of them."""
    num_positions: int | None
    """Tokens of the longest text that the base was made for, None where it sets no limit."""
    has_learned_positions: bool
    """Then there is nothing behind the last one; else positions are turned to angles, or not looked at."""
    leftovers: frozenset[str]
    """Names of the files' tensors that the model never loads."""

    @classmethod
    def of(cls, base: Base) -> Self:
        """Raises ``ConfigurationError`` where the base is no decoder, or none that the engine takes adapters on."""
        model = empty_decoder(base)
        found = cls.of_model(model, name=base.name, path=base.path, modules=base.modules)
        if told := mostly_outside(base, model, found.layers):
            raise ConfigurationError(
                f"{told} The engine takes adapters on linear layers only, so none is trained: choose a base such as "
                "llama, mistral, qwen3, olmo2 or pythia."
            )
        return replace(found, leftovers=leftovers(base, model))

    @classmethod
    def of_model(cls, model: PreTrainedModel, *, name: str, path: Path, modules: Collection[str] | None = None) -> Self:
        """Of a decoder without weights. ``modules`` are the paths that its files hold weights of, None for all."""
        head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
        named = dict(model.named_modules())
        layers = {
            path: (one.out_features, one.in_features)
            for path, one in named.items()
            if isinstance(one, nn.Linear) and one is not head and (modules is None or path in modules)
        }
        return cls(
            name=name,
            path=path,
            model_type=model.config.model_type,
            layers=layers,
            others={path: one is head for path, one in named.items() if path and path not in layers},
            embeddings=next(path for path, one in named.items() if one is embeddings),
            num_embeddings=int(embeddings.weight.shape[0]),
            width=int(embeddings.weight.shape[1]),
            is_tied=bool(model.config.get_text_config().tie_word_embeddings),
            parameters=tuple(name for name, _ in model.named_parameters()),
            num_positions=num_positions(model.config),
            has_learned_positions=any(
                isinstance(one, nn.Embedding) and path.rpartition(".")[2] in _LEARNED_POSITIONS
                for path, one in named.items()
            ),
            leftovers=frozenset(),
        )

    @property
    def names(self) -> list[str]:
        """The last parts of the layers' paths, by which they are named."""
        return sorted({path.rpartition(".")[2] for path in self.layers})

    @property
    def num_blocks(self) -> int:
        return 1 + max((number for path in self.layers if (number := block_of(path)) is not None), default=-1)


def block_of(path: str) -> int | None:
    """The number of the block that a layer lies in, by PEFT's rule."""
    found = re.match(r".*?\.[^.]*\.(\d+)\.", path)
    return None if found is None else int(found[1])
