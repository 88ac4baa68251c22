"""From what a training begins: a checkpoint as other providers name it, or the model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from graft.adapters.catalog.fine_tuned import FineTuned
from graft.adapters.errors import NotFound
from graft.server.errors import BadInput
from graft.server.jobs.job import JobSpec, Method, Start
from graft.server.jobs.start import find_start
from tests.adapters.catalog.test_snapshot import OTHERS, SNAPSHOT, V1, V2, V3

DONE, CUT, BARE, THEIRS = ("01m8h53s2npnaq1nwhmykfsk8" + one for one in "abcd")
MADE = {
    ("default", DONE): FineTuned(
        suffix="s", adapter="joe", version_digest=V3.digest, checkpoints={1: V1.digest, 2: V2.digest}
    ),
    ("default", CUT): FineTuned(
        suffix="", adapter="joe", version_digest=None, why_not="was cancelled", checkpoints={1: V1.digest, 9: V2.digest}
    ),
    ("default", BARE): FineTuned(suffix="", adapter="joe", version_digest=None, why_not="it is queued"),
    ("acme", THEIRS): FineTuned(suffix="", adapter="secret", version_digest=OTHERS.digest),
}
KNOWN = replace(SNAPSHOT, fine_tuned=MADE)


def start(**others: Any) -> Start | None:
    spec = JobSpec(**{"method": Method.SUPERVISED, "model": "base", "training_file": "file-x", **others})
    return find_start(spec, KNOWN, tenant="default")


@pytest.mark.parametrize(
    ("said", "digest"),
    [
        (f"ftjob-{DONE}", V3.digest),
        (f"ftjob-{DONE}:1", V1.digest),
        (f"ftckpt-{DONE}-2", V2.digest),
        (f"ft:org/tiny-1:default:s:{DONE}", V3.digest),
        (f"ft:org/tiny-1:default:s:{DONE}:ckpt-step-2", V2.digest),
        # What was cut off goes on from its newest checkpoint.
        (f"ftjob-{CUT}", V2.digest),
        (f"ftjob-{CUT}:1", V1.digest),
    ],
)
def test_a_checkpoint_has_many_names(said: str, digest: str) -> None:
    assert start(from_checkpoint=said) == Start(adapter="joe", version_digest=digest)
    # The same may stand where a model does; another model may not.
    assert start(from_checkpoint=said, model=f"joe@{digest}") == start(from_checkpoint=said)
    with pytest.raises(BadInput, match=r"model: is .*, not what from_checkpoint names: give the base org/tiny-1"):
        start(from_checkpoint=said, model="joe@" + (V1 if digest != V1.digest else V2).digest)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("nonsense", "each with or without a step"),
        (f"ftjob-{DONE}:7", "the latest steps: 1, 2"),
        (f"ftjob-{BARE}", "has made no checkpoint yet"),
        (f"ft:org/tiny-1:default::{BARE}", "it is queued"),
        (f"ftjob-{THEIRS}", "there is no job"),
        (f"ft:org/tiny-1:acme::{THEIRS}", "no job of yours"),
        (f"ftckpt-{DONE}", "a checkpoint's id"),
    ],
)
def test_a_checkpoint_that_there_is_not(said: str, words: str) -> None:
    with pytest.raises(BadInput, match="from_checkpoint: ") as caught:
        start(from_checkpoint=said)
    assert words in str(caught.value) and "secret" not in str(caught.value)


def test_a_model_is_what_its_name_means_now() -> None:
    assert start() is None and start(model="org/tiny-1") is None
    # Neither the canary nor any other share of traffic is learned from by chance.
    assert start(model="joe") == Start(adapter="joe", version_digest=V1.digest)
    assert start(model="joe:canary") == Start(adapter="joe", version_digest=V2.digest)
    with pytest.raises(NotFound):
        start(model="jane")


def test_soft_prompts_and_heads_are_no_start() -> None:
    for facts in ({"num_labels": 3}, {"num_virtual_tokens": 8}):
        entries = {
            key: replace(entry, versions={digest: replace(one, **facts) for digest, one in entry.versions.items()})
            for key, entry in KNOWN.entries.items()
        }
        spec = JobSpec(method=Method.SUPERVISED, model="joe", training_file="file-x")
        with pytest.raises(BadInput, match="goes on from a LoRA adapter only"):
            find_start(spec, replace(KNOWN, entries=entries), tenant="default")
