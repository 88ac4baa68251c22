"""What of a base can be adapted so that a server takes the adapter: known before its weights are loaded."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from torch import nn

from graft.adapters.base.base import Base
from graft.training.errors import ConfigurationError
from graft.training.model.configuration import num_positions
from graft.training.model.structure import empty_decoder, leftovers, mostly_outside

_LEARNED_POSITIONS = ("wpe", "embed_positions", "position_embeddings")


@dataclass(frozen=True, kw_only=True)
class Adaptable:
    """A base as a training of adapters sees it."""

    base: Base
    layers: tuple[str, ...]
    """Paths of the linear layers that a server takes adapters on."""
    others: Mapping[str, bool]
    """Paths of all that is there beside them; true for the output head."""
    num_embeddings: int
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
        head = model.get_output_embeddings()
        modules = dict(model.named_modules())
        layers = [
            path
            for path, one in modules.items()
            if isinstance(one, nn.Linear) and one is not head and path in base.modules
        ]
        if told := mostly_outside(base, model, layers):
            raise ConfigurationError(
                f"{told} The engine takes adapters on linear layers only, so none is trained: choose a base such as "
                "llama, mistral, qwen3, olmo2 or pythia."
            )
        return cls(
            base=base,
            layers=tuple(layers),
            others={path: one is head for path, one in modules.items() if path and path not in layers},
            num_embeddings=int(model.get_input_embeddings().weight.shape[0]),
            num_positions=num_positions(model.config),
            has_learned_positions=any(
                isinstance(one, nn.Embedding) and path.rpartition(".")[2] in _LEARNED_POSITIONS
                for path, one in modules.items()
            ),
            leftovers=leftovers(base, model),
        )

    @property
    def names(self) -> list[str]:
        """The last parts of the layers' paths, by which they are named."""
        return sorted({path.rpartition(".")[2] for path in self.layers})

    def targets(self, wanted: Sequence[str] | None) -> tuple[str, ...]:
        """Names of the layers to adapt; ``None`` wants every one. Raises ``ConfigurationError`` with all wrong ones."""
        if wanted is None:
            return tuple(self.names)
        reasons = [reason for name in wanted if (reason := self._reason(name))]
        if reasons:
            raise ConfigurationError(
                f"setting 'target_modules' names what cannot be adapted: {'; '.join(reasons)}. The linear layers of "
                f"{self.base.name} are {', '.join(self.names)}."
            )
        return tuple(wanted)

    def _reason(self, name: str) -> str | None:
        heads = [is_head for path, is_head in self.others.items() if _is(path, name)]
        if any(heads):
            return f"{name!r} is the output head, whose adapter no server takes"
        if heads:
            return f"{name!r} is no linear layer that a server takes adapters on"
        if any(_is(path, name) for path in self.layers):
            return None
        near = difflib.get_close_matches(name, self.names, n=1)
        return f"{name!r} is no layer" + (f", did you mean {near[0]!r}?" if near else "")


def _is(path: str, name: str) -> bool:
    """PEFT's rule: the whole path, or its end."""
    return path == name or path.endswith(f".{name}")
