"""Several runs as one training: in each pass the base computes the micro-batches of all that still go on."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from graft.training.adapt.together.joint import Joint
from graft.training.adapt.together.met import Met
from graft.training.errors import Interrupted, TrainingError
from graft.training.loop.interruption import Interruption
from graft.training.loop.run import Run
from graft.training.objective.masks import decoder_of
from graft.training.parallel.layout import Work

_Learning = Generator[Work, Mapping[str, Tensor], None]


@dataclass(kw_only=True)
class Member:
    """A run of a LoRA adapter on a twin of the base, whose step has ``layout`` and draws from ``generator``."""

    run: Run
    layout: Met
    generator: torch.Generator
    failure: TrainingError | None = None
    """What ended it before its time."""

    def learning(self, *, resume: bool, interruption: Interruption) -> _Learning:
        """Says what is to be computed, and is sent what came of it, step by step."""
        step = self.run.step
        with self.run.begun(resume=resume, interruption=interruption) as going:
            while not going.is_over:
                prepared = going.read()
                self.layout.meet((yield step.work(prepared)))
                going.take_step(prepared)
        self.run.check_numbers()
        step.finish()


def train_together(
    base: PreTrainedModel, members: Sequence[Member], *, interruption: Interruption, resume: bool = False
) -> None:
    """Trains all to their ends, which may be at different steps; a member that fails says so and leaves the others be.

    Raises ``Interrupted`` behind a checkpoint of every member that was not at its end.
    """
    models = [one.run.step.model for one in members]
    joint = Joint(
        base,
        models,
        attention=decoder_of(models[0]).config._attn_implementation,
        generators={number: one.generator for number, one in enumerate(members)},
    )
    with contextlib.ExitStack() as stack:
        learning = [one.learning(resume=resume, interruption=interruption) for one in members]
        for one in learning:
            stack.callback(one.close)
        works = _next(members, learning, dict.fromkeys(range(len(members))))
        while works:
            works = _next(members, learning, joint.add_gradients(works))
    interrupted = [one.failure for one in members if isinstance(one.failure, Interrupted)]
    if interrupted:
        told = f"{interrupted[0]}" if len(interrupted) == 1 else f"{len(interrupted)} runs: {interrupted[0]}"
        raise Interrupted(told, number=interruption.number)


def _next(
    members: Sequence[Member], learning: Sequence[_Learning], means: Mapping[int, Mapping[str, Tensor] | None]
) -> dict[int, Work]:
    """What those that go on ask for next; ``means`` is what came of what each asked for."""
    works = {}
    for number, found in means.items():
        one = learning[number]
        try:
            works[number] = next(one) if found is None else one.send(found)
        except StopIteration:
            pass
        except TrainingError as error:
            members[number].failure = error
    return works
