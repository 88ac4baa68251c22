"""From a command's flags to a worker that runs."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from graft.adapters.base.base import find_base
from graft.training.errors import ConfigurationError
from graft.training.settings.limits import require
from graft.training.worker.folder import METHODS
from graft.training.worker.supervising.process import command
from graft.training.worker.supervising.worker import Worker, WorkerSettings


def run_worker(args: argparse.Namespace, *, target: str, name: str) -> int:
    """Until a signal, or ``--max-jobs``; returns how many were carried out. Raises ``ConfigurationError``."""
    require(args.processes >= 1, "--processes", args.processes, "1 or more")
    require(args.ray is None or args.ray >= 1, "--ray", args.ray, "1 or more")
    require(0 < args.yield_above < math.inf, "--yield-above", args.yield_above, "seconds above 0")
    require(args.max_jobs is None or args.max_jobs >= 1, "--max-jobs", args.max_jobs, "1 or more")
    if args.ray is not None and args.processes != 1:
        raise ConfigurationError("--processes starts them here, and --ray on a cluster: take one of them.")
    if args.ray is None and args.ray_address is not None:
        raise ConfigurationError("--ray-address is for --ray WORKERS: add that, or leave it out.")
    settings = WorkerSettings(
        target=target,
        folder=args.folder,
        name=name,
        token=os.environ.get("GRAFT_TOKEN") or None,
        base=args.training_base,
        ray=args.ray,
        ray_address=args.ray_address,
        metrics_url=args.yield_to,
        yield_above_seconds=args.yield_above,
        max_jobs=args.max_jobs,
        settings={} if args.settings is None else read_settings(args.settings),
    )
    return Worker(settings, find_base=find_base, command=partial(command, num_processes=args.processes)).run()


def read_settings(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """The operator's, by method. Raises ``ConfigurationError``."""
    from graft.training.settings.settings import read_settings as read_file

    found = read_file(path)
    for method, values in found.items():
        if method not in METHODS.values() or not isinstance(values, Mapping):
            known = ", ".join(METHODS.values())
            raise ConfigurationError(
                f"--settings {path} has {method!r}; it has an object of settings for each of {known}."
            )
    return found
