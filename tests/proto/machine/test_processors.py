"""Processors that a process may use, by its affinity and by files as the kernel's documentation describes them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from graft.machine.processors import num_processors

PERIOD = "100000\n"


@pytest.fixture(autouse=True)
def node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 64 processors, of which the process may run on eight."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


def version_1(folder: str, quota: int) -> dict[str, str]:
    where = f"sys/fs/cgroup/{folder}"
    return {f"{where}/cpu.cfs_quota_us": f"{quota}\n", f"{where}/cpu.cfs_period_us": PERIOD}


def written(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("", {}, 8),
        # Version 2: `$MAX $PERIOD`; a group keeps the limits of all above it.
        ("0::/", {"sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ("0::/", {"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ("0::/", {"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ("0::/", {"sys/fs/cgroup/cpu.max": "10000 100000\n"}, 1),
        ("0::/", {"sys/fs/cgroup/cpu.max": "1600000 100000\n"}, 8),
        (
            "0::/pod/job",
            {"sys/fs/cgroup/pod/cpu.max": "300000 100000", "sys/fs/cgroup/pod/job/cpu.max": "max 100000"},
            3,
        ),
        ("0::/pod/job", {"sys/fs/cgroup/other/cpu.max": "300000 100000"}, 8),
        # Version 1: -1 is no limit; a container that names its group by the host's path has it at the top.
        ("4:cpu,cpuacct:/\n1:name=systemd:/", version_1("cpu,cpuacct", -1), 8),
        ("4:cpu,cpuacct:/job", version_1("cpu,cpuacct/job", 250000), 3),
        ("4:cpu,cpuacct:/job", version_1("cpu/job", 400000), 4),
        ("4:cpu:/docker/4f1e", version_1("cpu", 200000), 2),
        ("9:cpuset:/job", version_1("cpuset/job", 200000), 8),
        ("0::/", {"sys/fs/cgroup/cpu.max": "nonsense\n"}, 8),
    ],
)
def test_the_fewest_count(groups: str, files: Mapping[str, str], expected: int, tmp_path: Path) -> None:
    assert num_processors(written(tmp_path, {"proc/self/cgroup": groups, **files})) == expected


def test_a_system_without_control_groups_counts_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert num_processors(tmp_path) == 8
    monkeypatch.delattr(os, "sched_getaffinity")
    assert num_processors(tmp_path) == 64


def test_nobody_counts_by_other_means(repository: Path) -> None:
    """The node's processors are not this process's."""
    found = {
        str(path.relative_to(repository))
        for root in ("proto", "adapters", "server", "training")
        for path in (repository / root).rglob("*.py")
        if any(name in path.read_text() for name in ("cpu_count(", "sched_getaffinity("))
    }
    assert found == {"proto/graft/machine/processors.py", "proto/graft/cli/diagnosis/diagnosis.py"}
