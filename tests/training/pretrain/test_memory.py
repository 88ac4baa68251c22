"""What a plan says of memory is what steps of small models really hold, counted at every operation."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from graft.training.parallel.mesh import Mesh
from graft.training.pretrain.memory import Held, memory
from tests.training.pretrain.measuring import ALONE, SHARED, Case, measured, planned

TOLERANCE = 0.1
"""Of the whole. What is not counted: norms and their like on the way back, and what an exchange copies twice."""


def test_tensor_parallelism_splits_all_matrices() -> None:
    model = Case().model()
    sizes = {name: one.numel() for name, one in model.named_parameters()}
    split = sum(size / (1 if "norm" in name else 2) for name, size in sizes.items())
    assert Held.of(model, Mesh(tp=2)).num == split
    in_a_quarter = sum(size for name, size in sizes.items() if ".layers.0." in name)
    assert Held.of(model, Mesh(pp=4)).num == in_a_quarter + sizes["lm_head.weight"]
    # The vocabulary need not be a multiple of anything: the last process has less of it.
    Mesh(tp=2).check(model.config, num_processes=2, batches_per_step=1)


def test_reading_22_logits_count_where_the_head_is_not_fused() -> None:
    with torch.device("meta"):
        model = Case(shape={"vocab_size": 30_000}).model()
    one, pipeline = (memory(model, Case().all_settings, mesh, device="cuda").head for mesh in (Mesh(), Mesh(pp=4)))
    assert pipeline == 12 * 8 * 128 * 30_000 and one < pipeline + 6 * 128 * 30_000


def test_a_split_vocabulary_has_more_rows_of_fewer_logits_at_a_time() -> None:
    """Of Llama 3's each of two GPUs takes 4,096 rows (2^28 logits, in whole tiles of 256), and twice the bytes of
    float32: the logarithm of a sum of exponentials has those beside the logits (ATen's ``logsumexp``).
    """
    with torch.device("meta"):
        model = Case(shape={"vocab_size": 128_256}).model()
    settings = Case(settings={"max_length": 1024}).all_settings
    split = memory(model, settings, Mesh(tp=2), device="cuda").head
    assert split == 4 * 64_128 * 128 + 8 * 4096 * 64_128 + 2 * 8 * 1024 * 128


def test_what_is_offloaded_takes_the_hosts_memory() -> None:
    """Of eight bytes for a master and its gradient and eight for its moments, in two parts, nothing is left."""
    with torch.device("meta"):
        model = Case().model()
    num, mesh = sum(one.numel() for one in model.parameters()), Mesh(dp_shard=2)
    here, there = (
        memory(model, Case(settings={"cpu_offload": offloads}).all_settings, mesh, device="cuda")
        for offloads in (False, True)
    )
    assert here.weights - there.weights == here.gradients - there.gradients == 4 * num / 2
    assert here.optimizer == 8 * num / 2 and there.optimizer == 0


def test_what_is_summed_behind_each_micro_batch_is_held_in_parts() -> None:
    """Whole sums of four bytes a parameter are not there, and the parts are."""
    with torch.device("meta"):
        model = Case().model()
    num, mesh, twice = (
        sum(one.numel() for one in model.parameters()),
        Mesh(dp_shard=4),
        {"gradient_accumulation_steps": 2},
    )
    whole, parts = (
        memory(model, Case(settings={**twice, "sync_each_batch": each}).all_settings, mesh, device="cuda")
        for each in (False, True)
    )
    assert parts.gradients_before == 4 * num / 4 and whole.gradients_before == 4 * num + 4 * num / 4


@pytest.mark.parametrize("name", ALONE)
def test_one_process_holds_what_was_planned(name: str) -> None:
    assert planned(ALONE[name]) == pytest.approx(measured(ALONE[name]), rel=TOLERANCE)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, tuple[float, int]]]:
    """Of each of two processes (gloo)."""
    folder = tmp_path_factory.mktemp("measured")
    root = Path(__file__).parents[3]
    command = [sys.executable, "-m", "tests.training.pretrain.measuring"]
    children = [
        subprocess.Popen([*command, str(rank), "2", str(folder), *SHARED], cwd=root, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        said = [child.communicate(timeout=900)[1] for child in children]
    finally:
        for child in children:
            child.kill()
    assert [child.returncode for child in children] == [0, 0], said[0][-3000:]
    return [json.loads((folder / f"found-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARED)
def test_two_processes_hold_what_was_planned(name: str, found: list[dict[str, tuple[float, int]]]) -> None:
    """Of ZeRO-1 one may own less than the other: the plan is for the one that holds most."""
    plans, most = zip(*(one[name] for one in found), strict=True)
    assert plans[0] == pytest.approx(max(most), rel=TOLERANCE)
