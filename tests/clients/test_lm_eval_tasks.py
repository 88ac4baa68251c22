"""lm-eval through HTTP gives the scores that the engine itself gives: in float32, on local task files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from graft.adapters.base.base import Base
from graft.client import Client
from graft.training.evaluation.asking.served import ServedModel
from graft.training.evaluation.reports.harness_results import results
from graft.training.evaluation.running.run import Plan, evaluate
from graft.training.evaluation.tasks import reading
from tests.clients.conftest import Ask
from tests.clients.test_clients import PAIRS
from tests.running import Server, start_server, stop_server

pytestmark = pytest.mark.slow
TASKS = ("sentiment", "choice-questions", "unscrambling")
LIMIT = 40


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The shipped base in float32: no rounding stands between two ways to the same figure."""
    running = start_server(tmp_path_factory.mktemp("float32"), "--quantization", "fp32", "--num-slots", "0")
    yield running
    stop_server(running)


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    with Client(server.grpc) as client:
        yield client


def tasks_with_whole_paths(folder: Path) -> Path:
    """The harness looks for data from where it runs, not beside the task's file."""
    folder.mkdir()
    for name in TASKS:
        config = yaml.safe_load((reading.READY / f"{name}.yaml").read_text())
        files = config["dataset_kwargs"]["data_files"]
        config["dataset_kwargs"]["data_files"] = {split: str(folder / file) for split, file in files.items()}
        for file in files.values():
            shutil.copy(reading.READY / file, folder)
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    return folder


def test_log_likelihoods_and_accuracies_are_the_engine_s(ask: Ask, client: Client, base: Base, tmp_path: Path) -> None:
    got: dict[str, Any] = ask(
        "lm-eval",
        model="base",
        tokenizer=str(base.path),
        pairs=PAIRS,
        folder_of_tasks=str(tasks_with_whole_paths(tmp_path / "tasks")),
        tasks=list(TASKS),
        limit=LIMIT,
    )
    for (text, continuation), (logprob, is_greedy) in zip(PAIRS, got["scores"], strict=True):
        (score,) = client.score(text, [continuation]).scores
        print(f"{continuation!r}: {logprob} through HTTP, {score.logprob} by Score")
        assert logprob == pytest.approx(score.logprob, abs=1e-4)
        assert is_greedy == score.is_greedy
    outcomes = evaluate(
        [ServedModel(client, "base")], [reading.read(name) for name in TASKS], Plan(shots=(0,), limit=LIMIT)
    )
    own = results(outcomes, model="base", server="", seconds_since_epoch=0.0)["results"]
    print(json.dumps({name: {"graft": own[name], "lm-eval": got["results"][name]} for name in TASKS}))
    for name in TASKS:
        theirs = {key: value for key, value in got["results"][name].items() if "stderr" not in key and "," in key}
        assert theirs == {key: own[name][key] for key in theirs}, name
        assert theirs
