"""A policy that goes on from an adapter: its first answers, and its reference, are that adapter's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load, load_file

from graft.adapters.base.base import Base
from graft.client import Client
from graft.training.batch.answers import Answer, AnswerBatch
from graft.training.finetune.job import Finetune
from graft.training.finetune.settings import FinetuneSettings
from graft.training.objective.policy import as_reference, token_logprobs
from graft.training.reinforce.job import Reinforce, _schedule
from graft.training.reinforce.settings import ReinforceSettings
from tests.training.finetune.test_finetune import ROWS, write_rows

WEIGHTS = "adapter_model.safetensors"


class Pushed:
    """A server that takes versions and says nothing else."""

    def __init__(self) -> None:
        self.files: list[Any] = []

    def push_adapter(self, files: Any, **said: Any) -> Any:
        self.files.append(files)
        return type("Said", (), {"version": type("Version", (), {"digest": f"sha256:{len(self.files)}"})})


def test_what_it_went_on_from_is_published_first_and_is_the_reference(tiny_base: Path, tmp_path: Path) -> None:
    base, data = Base.from_folder(tiny_base), write_rows(tmp_path / "rows.jsonl", ROWS)
    few = {"per_device_train_batch_size": 4, "learning_rate": 0.05, "report_examples": 0, "max_steps": 2}
    made = Finetune(base=base, data=data, settings=FinetuneSettings.from_mapping(few), work=tmp_path / "made").execute()
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps({"prompt": "a"}) + "\n")
    settings = ReinforceSettings.from_mapping({"start": str(made), "num_prompts": 1, "max_completion_length": 8})
    training = Reinforce(
        base=base, data=prompts, settings=settings, work=tmp_path / "run", server="", policy="p", reward="x:y"
    )
    server, (questions, _) = Pushed(), training._questions()
    own = training._identity(_schedule(settings, 1))
    course, sampler = training._course(cast(Client, server), lambda answers: [], questions, own)
    assert course.publishes_first
    course.rounds.publish()
    (files,) = server.files
    began, published = load_file(made / WEIGHTS), load(bytes(files[WEIGHTS]))
    assert published.keys() == began.keys()
    assert all(torch.equal(published[name].float(), began[name].float()) for name in began)
    assert (sampler._model, sampler._steps["sha256:1"]) == ("p:policy", 0)

    model = course.rounds.step.model
    asked = AnswerBatch.of([Answer.of([5, 6], [7, 8])], packing=True, pad_id=0)
    first = token_logprobs(model, asked).detach()
    with torch.no_grad():
        for one in model.parameters():
            if one.requires_grad:
                one.add_(0.3)
    learned = token_logprobs(model, asked).detach()
    with as_reference(model):
        reference = token_logprobs(model, asked).detach()
    assert torch.equal(reference, first) and not torch.allclose(learned, first)
    assert torch.equal(token_logprobs(model, asked).detach(), learned), "and it is what it was behind that"
    with model.disable_adapter():  # type: ignore[operator]
        assert not torch.allclose(token_logprobs(model, asked).detach(), first)
