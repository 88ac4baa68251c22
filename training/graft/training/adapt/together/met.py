"""A process whose gradients are computed elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from graft.training.parallel.layout import Alone, Work


class Met(Alone):
    """Of one member: its gradients are there when its step asks for them, with all others' (``Joint``)."""

    _means: dict[str, Tensor] | None = None

    def meet(self, means: Mapping[str, Tensor]) -> None:
        """Before the step: what its work gave."""
        self._means = dict(means)

    def run(self, work: Work) -> dict[str, Tensor]:
        means, self._means = self._means, None
        return super().run(work) if means is None else means
