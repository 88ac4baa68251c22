"""``graft finetune --sweep``: several adapters in one training of their base."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graft.training.commands.arguments.base import base_of, configured
from graft.training.commands.arguments.pushing import push
from graft.training.finetune.settings import FinetuneSettings
from graft.training.launch.machine import Machine
from graft.training.settings.settings import given

if TYPE_CHECKING:
    from graft.training.finetune.sweep.grid import Wanted
    from graft.training.finetune.sweep.results import Result

FAILED = 2
"""The exit status where a run failed."""


def run_sweep(args: argparse.Namespace) -> int:
    """Trains the runs of the file, tells what came out, and pushes each where that was asked for."""
    from graft.training.errors import ConfigurationError
    from graft.training.finetune.sweep.grid import read_grid
    from graft.training.job.export import check_adapter_output
    from graft.training.job.sources import Sources

    problems = [f"--{flag} is not for --sweep" for flag in ("ray", "ray_address") if getattr(args, flag) is not None]
    if args.alias is not None and args.push is None:
        problems.append("--alias moves an alias on a server; add --push HOST:PORT")
    if problems:
        raise ConfigurationError("; ".join(problems) + ".")
    name = args.name or args.sweep.stem.lower()
    data = None if args.data is None else Sources.parse(args.data)
    wanted = read_grid(args.sweep, name=name, data=data, given=given(args, FinetuneSettings))
    if args.plan:
        from graft.training.finetune.sweep.plan import plan

        print(plan(configured(args.base), wanted, Machine.of(args)))
        return 0
    folder = args.output or Path(".graft") / "finetune" / name
    check_adapter_output(folder)
    results = _trained(args, wanted, folder)
    for one, result in zip(wanted, results, strict=True):
        if result.failure is None and args.push is not None:
            push(args.push, folder / one.name / "adapter", name=one.name, alias=one.alias or args.alias)
    failed = [one for one in results if one.failure is not None]
    for result in failed:
        print(f"run {result.name} failed: {result.failure}", file=sys.stderr)
    return FAILED if failed else 0


def _trained(args: argparse.Namespace, wanted: Sequence[Wanted], folder: Path) -> list[Result]:
    """In the order of the runs, told with the best first."""
    from graft.training.finetune.sweep.job import Sweep
    from graft.training.finetune.sweep.results import PAGE, told

    base = base_of(args, folder)
    sweep = Sweep(base=base, wanted=wanted, work=folder)
    if args.push is not None:
        from graft.training.adapt.made.pushing import check_push

        job = max(sweep.jobs, key=lambda one: one.settings.r)
        method, adaptable = job.method()
        check_push(args.push, base, job.form, method.way(adaptable))
    results = sweep.execute(resume=args.resume)
    print(told(results))
    print(f"adapters in {folder}/RUN/adapter, all about them in {folder / PAGE}")
    return results
