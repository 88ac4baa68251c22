"""A policy whose every version samples on the running server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from transformers import AutoTokenizer

from graft.adapters.adapter import Lineage
from graft.adapters.base.base import Base
from graft.adapters.folder.record import TrainedRecord
from graft.adapters.form import ServingForm
from graft.client import Client
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.adapted import adapted
from graft.training.adapt.made.in_memory import adapter_in_memory
from graft.training.adapt.methods.catalog import method_of
from graft.training.adapt.optimizers import optimizers_of
from graft.training.errors import ConfigurationError
from graft.training.finetune.settings import FinetuneSettings
from graft.training.loop.step import Step
from graft.training.objective.reinforce.correction import Correction
from graft.training.objective.reinforce.policy import MISMATCH, PolicyObjective
from graft.training.objective.reinforce.policy_losses import POLICY_LOSSES
from graft.training.parallel.layout import Alone
from graft.training.reinforce.advantages import ESTIMATORS
from graft.training.reinforce.asking.sampler import Prompt
from graft.training.reinforce.asking.served import ALIAS, Asking, ServedPolicy
from graft.training.reinforce.batches import Laying
from graft.training.reinforce.lesson import of_groups
from graft.training.reinforce.rollout import Rollout
from graft.training.reinforce.rounds import Plan, Rounds

pytestmark = pytest.mark.slow
NUM_ROUNDS, SAID = 4, ("The", "A little", "One day", "She said")


def rounds(base: Base, client: Client, *, name: str = "policy", seed: int = 0) -> Rounds:
    settings = FinetuneSettings.from_mapping({"r": 8, "learning_rate": 0.003})
    target, method = Adaptable.of(base), method_of(settings)
    model = adapted(target, ServingForm.NF4, method, settings, Alone())
    record = TrainedRecord(
        base=base.identity,
        form=ServingForm.NF4,
        lineage=Lineage(job="reinforce-test", data_digest=None, code_version=None, seed=0),
    )

    objective = PolicyObjective(loss=POLICY_LOSSES["grpo"], correction=Correction())
    step = Step(model, objective=objective, optimizers=optimizers_of(settings, lambda name: 1.0))
    tokenizer: Any = AutoTokenizer.from_pretrained(base.path)
    asked = [Prompt(row=row, ids=tokenizer(text).input_ids) for row, text in enumerate(SAID)]
    return Rounds(
        plan=Plan(num_groups=len(asked), seed=seed),
        step=step,
        sampler=ServedPolicy(client, name, asking=Asking(num_answers=8, max_tokens=12)),
        prompts=lambda draw: asked,
        grade=share_of_e,
        lessons=lambda groups, beta: of_groups(groups, ESTIMATORS["grpo"]),
        laying=Laying(pad_id=0, tokens=512),
        files=lambda model: adapter_in_memory(method, model, record),
    )


def share_of_e(answers: Sequence[tuple[int, Rollout]]) -> list[float | None]:
    return [one.text.count("e") / len(one.text) if one.text else None for _, one in answers]


def test_every_round_samples_from_the_version_of_the_one_before(base: Base, client: Client) -> None:
    going = rounds(base, client)
    told = []
    for number in range(NUM_ROUNDS):
        told.append(going.take(number, 0.003))
        answerer = client.generate("The", model=f"policy:{ALIAS}", max_tokens=1).answerer
        assert answerer.version_number == number + 1
    assert going.step.number == NUM_ROUNDS
    assert all(one[MISMATCH] <= 0.02 and one["dropped/old"] == 0 for one in told)
    assert told[-1]["reward"] > told[0]["reward"]


def test_a_version_that_somebody_else_made_is_told(base: Base, client: Client) -> None:
    going, other = (rounds(base, client, name="contested", seed=seed) for seed in (0, 1))
    going.take(0, 0.003)
    other.take(0, 0.003)
    with pytest.raises(ConfigurationError, match="somebody else moved the alias"):
        going.take(1, 0.003)
