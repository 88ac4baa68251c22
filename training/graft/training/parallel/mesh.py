"""How the processes of a run are arranged. Pure: nothing is started here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from graft.training.errors import ConfigurationError
from graft.training.model.family import FAMILIES, facts_of
from graft.training.parallel.plan import reasons_against

if TYPE_CHECKING:
    from transformers import PretrainedConfig

AXES = ("pp", "dp_replicate", "dp_shard", "cp", "tp")
"""From the outermost to the innermost: neighbours in rank share tensors of a layer, distant ones whole stages."""


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """Sizes of the named axes. Their product is the number of processes."""

    pp: int = 1
    """Pipeline stages (Huang et al. 2019, arXiv:1811.06965)."""
    dp_replicate: int = 1
    """Copies of the model, or of the group that shards it."""
    dp_shard: int = 1
    """Processes that hold one copy among them (Rajbhandari et al. 2020, arXiv:1910.02054)."""
    cp: int = 1
    """Parts of every sequence (Llama 3, arXiv:2407.21783, §3.3.2)."""
    tp: int = 1
    """Parts of every matrix (Shoeybi et al. 2019, arXiv:1909.08053)."""
    zero_stage: int = 3
    """What ``dp_shard`` shards: 1 the optimizer's state, 2 gradients too, 3 weights too."""
    schedule: str = "1f1b"
    """Of the pipeline: ``1f1b`` or ``interleaved``, two stages for each process."""

    def __post_init__(self) -> None:
        for axis in AXES:
            if getattr(self, axis) < 1:
                raise ConfigurationError(f"the mesh's axis {axis} has the size {getattr(self, axis)}; 1 is the least.")
        if self.zero_stage not in (1, 2, 3):
            raise ConfigurationError(f"zero_stage is {self.zero_stage}; it must be 1, 2 or 3.")
        if self.schedule not in ("1f1b", "interleaved"):
            raise ConfigurationError(f"schedule is {self.schedule!r}; it must be 1f1b or interleaved.")

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes in the order of ``AXES``."""
        return tuple(getattr(self, axis) for axis in AXES)

    @property
    def size(self) -> int:
        """Processes."""
        return prod(self.shape)

    @property
    def dp(self) -> int:
        """Processes, or groups of them, that read different data."""
        return self.dp_replicate * self.dp_shard

    @property
    def shards_weights(self) -> bool:
        return self.dp_shard > 1 and self.zero_stage > 1

    @property
    def keeps_whole(self) -> bool:
        """Whether each process has the whole model and computes with it by itself."""
        return not self.shards_weights and self.pp == self.cp == self.tp == 1

    def check(
        self,
        config: PretrainedConfig,
        *,
        num_processes: int,
        batches_per_step: int,
        length: int | None = None,
        further: Iterable[str] = (),
    ) -> None:
        """Raises ``ConfigurationError`` with every reason why a model cannot be trained on this mesh, and ``further``
        ones that the caller has found.
        """
        reasons = [*self._reasons(config, num_processes, batches_per_step, length), *further]
        if reasons:
            raise ConfigurationError(f"this mesh cannot be used: {'; '.join(reasons)}.")

    def _reasons(
        self, config: PretrainedConfig, num_processes: int, batches_per_step: int, length: int | None
    ) -> Iterator[str]:
        if self.size != num_processes:
            sizes = " × ".join(f"{axis} {getattr(self, axis)}" for axis in AXES if getattr(self, axis) > 1) or "1"
            yield f"{sizes} asks for {self.size} processes, and there are {num_processes}"
        if batches_per_step % self.dp:
            yield (
                f"{batches_per_step} micro-batches a step cannot be dealt to {self.dp} data-parallel groups alike: "
                "accumulate a multiple"
            )
        split = [axis for axis in ("tp", "pp", "cp") if getattr(self, axis) > 1]
        if split and not facts_of(config).is_splittable:
            known = dict.fromkeys(one.model_type for one in FAMILIES.values() if one.is_splittable)
            yield (
                f"{' and '.join(split)} cannot split a {config.model_type}, only {', '.join(known)}; "
                "use dp_replicate and dp_shard"
            )
            return
        if self.zero_stage < 3 and self.dp_shard > 1 and split:
            yield f"zero_stage {self.zero_stage} cannot be combined with {' and '.join(split)}; use zero_stage 3"
        yield from self._tensor_reasons(config)
        if (stages := self.pp * (2 if self.schedule == "interleaved" else 1)) > config.num_hidden_layers:
            yield f"{config.num_hidden_layers} layers do not make {stages} pipeline stages"
        if self.pp > 1 and config.tie_word_embeddings:
            yield "a pipeline cannot split a model whose output head is its embedding (tie_word_embeddings)"
        if self.pp > 1 and len(set(getattr(config, "layer_types", None) or ())) > 1:
            yield "pp cannot split a model whose layers differ in their attention (layer_types)"
        if self.pp > 1 and self.cp > 1:
            yield "pp and cp cannot be combined yet"
        if self.pp > 1 and batches_per_step // self.dp < self.pp:
            yield f"a pipeline of {self.pp} stages needs as many micro-batches for each data-parallel group, at least"
        if self.cp > 1 and length is not None and length % (2 * self.cp):
            yield f"rows of {length} tokens cannot be cut into {2 * self.cp} equal chunks for cp {self.cp}"

    def _tensor_reasons(self, config: PretrainedConfig) -> Iterator[str]:
        if self.tp == 1:
            return
        yield from reasons_against(config)
        parts = {
            "attention heads": config.num_attention_heads,
            "key-value heads": getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
            "feed-forward channels": config.intermediate_size,
        }
        for what, num in parts.items():
            if num % self.tp:
                yield f"{num} {what} cannot be split among tp {self.tp}"
