"""How many processors this process may use: in a container or under a scheduler fewer than the machine has."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")


def num_processors(root: Path = _ROOT) -> int:
    """Those that its affinity names, or what its control groups' quota is worth, rounded up, whichever is fewer.

    `root` is the folder in which `proc` and `sys` lie. A quota is time of processors in a period of time
    (https://docs.kernel.org/admin-guide/cgroup-v2.html: `cpu.max`; in version 1 `cpu.cfs_quota_us`).
    """
    named = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([named, *map(math.ceil, _quotas(root))])


def _quotas(root: Path) -> Iterator[float]:
    """Of each group that the process is in, in processors."""
    for group in _groups(root):
        try:
            yield from _quota(group)
        except (OSError, ValueError):
            continue  # no such group here, or one whose files are others


def _groups(root: Path) -> Iterator[Path]:
    """The folders of its groups and of all above them. A container often sees its own group as the topmost one."""
    mounts = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            places = [mounts, mounts / "unified"]
        elif "cpu" in controllers.split(","):
            places = [mounts / controllers, mounts / "cpu"]
        else:
            continue
        for place in places:
            lowest = place / path.lstrip("/")
            yield from (each for each in (lowest, *lowest.parents) if each.is_relative_to(place))


def _quota(group: Path) -> Iterator[float]:
    if (both := group / "cpu.max").is_file():
        quota, period = both.read_text(encoding="utf-8").split()
    elif (alone := group / "cpu.cfs_quota_us").is_file():
        quota, period = (each.read_text(encoding="utf-8") for each in (alone, group / "cpu.cfs_period_us"))
    else:
        return
    if quota != "max" and int(quota) > 0:
        yield int(quota) / int(period)
