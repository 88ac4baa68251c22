"""The whole of `graft bench lora`: from what was asked to figures, JSON and a picture."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.bench.serving.adapters import make_adapters
from graft.bench.serving.figures import picture
from graft.bench.serving.figures.figures import Figures
from graft.bench.serving.measurements import measurements, zipf
from graft.bench.serving.measurements.measurements import ENGINE, MANY, SERVER, Measurement
from graft.bench.serving.measurements.server import server_of
from graft.bench.serving.measurements.workbench import Workbench, say
from graft.bench.serving.peers.engines import NUM_SLOTS, Engines
from graft.bench.serving.processes import BenchFailed, errors_into
from graft.bench.serving.shapes import Shape, context_of, make_base

_QUIET_LOAD = 0.5
_MAX_ADAPTERS, _QUICK_ADAPTERS = 1000, 64


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What was asked for. `folder` keeps bases and adapters between runs; None for a temporary one."""

    shape: Shape
    forms: tuple[ServingForm, ...]
    measurements: tuple[Measurement, ...]
    num_pairs: int
    quick: bool
    folder: Path | None
    json: Path | None
    picture: Path | None


def measure(plan: Plan) -> int:
    """Print every figure as it is taken, then write. Returns 0, or 1 where no figure could be taken."""
    seconds = len(plan.forms) * measurements.estimate(
        list(plan.measurements), num_pairs=plan.num_pairs, cost=plan.shape.cost
    )
    print(f"{plan.shape.name}, {', '.join(plan.forms)}: {' '.join(each.name for each in plan.measurements)}")
    print(f"about {max(1, round(seconds / 60))} min on two quiet cores, {plan.num_pairs} pairs each", flush=True)
    if os.getloadavg()[0] > _QUIET_LOAD:
        print(f"the machine is not quiet: its load is {os.getloadavg()[0]:.1f}; expect wide spreads", flush=True)
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")  # standard output is for figures
    begin, figures = time.monotonic(), Figures()
    with ExitStack() as stack:
        folder = plan.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="graft-bench-")))
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with errors_into(folder / "bench.log"):
                asyncio.run(_measure(plan, folder, figures))
                gc.collect()  # vLLM's clients complain when they go with the interpreter
        except asyncio.CancelledError:
            print("ended early, by SIGTERM")
        finally:
            # What was taken before an interruption is worth keeping.
            _write(plan, figures)
    print(f"{len(figures.taken)} figures, {len(figures.left_out)} left out, in {time.monotonic() - begin:.0f} s")
    for name, reason in figures.left_out.items():
        print(f"  left out: {name}: {reason}")
    return 0 if figures.taken else 1


async def _measure(plan: Plan, folder: Path, figures: Figures) -> None:
    task = asyncio.current_task()
    assert task is not None
    # Servers and engines are ended on the way out, so there must be one.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    for number, form in enumerate(plan.forms):
        figures.suffix = f"_{form.value}" if number else ""
        bench = await asyncio.to_thread(_workbench, plan, form, folder, figures)
        try:
            await _take(bench, plan.measurements)
        finally:
            await bench.engines.close_all()


def _workbench(plan: Plan, form: ServingForm, folder: Path, figures: Figures) -> Workbench:
    say(f"making {plan.shape.name} and its adapters in {folder}")
    base: Base = make_base(plan.shape, folder)
    files = folder / f"lora-{plan.shape.name}-{form.value}"
    adapters = make_adapters(base, files, NUM_SLOTS)
    context = context_of(base)
    return Workbench(
        base=base,
        form=form,
        context=context,
        adapters=tuple(adapters),
        folder=files,
        num_pairs=plan.num_pairs,
        quick=plan.quick,
        figures=figures,
        engines=Engines(base, form, adapters, context=context),
    )


async def _take(bench: Workbench, wanted: Iterable[Measurement]) -> None:
    by_place: dict[str, list[Measurement]] = {ENGINE: [], SERVER: [], MANY: []}
    for each in wanted:
        by_place[each.place].append(each)
    for each in by_place[ENGINE]:
        await _attempt(bench, each, bench)
    for place in (SERVER, MANY):
        try:
            if by_place[place]:
                await _on_server(bench, place, by_place[place])
        except BenchFailed as error:
            _leave_out(bench, by_place[place], error)


async def _on_server(bench: Workbench, place: str, wanted: list[Measurement]) -> None:
    async with server_of(bench, num_slots=NUM_SLOTS if place == SERVER else zipf.NUM_SLOTS) as server:
        arguments: tuple[object, ...] = (bench, server)
        if place == MANY:
            arguments = (await zipf.register(bench, server, _QUICK_ADAPTERS if bench.quick else _MAX_ADAPTERS),)
        for each in wanted:
            await _attempt(bench, each, *arguments)


async def _attempt(bench: Workbench, measurement: Measurement, *arguments: object) -> None:
    """One measurement that fails leaves the others standing."""
    print(f"{measurement.name}: {measurement.about}", flush=True)
    try:
        await measurement.run(*arguments)
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise
    except Exception as error:
        found = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
        bench.figures.leave_out(measurement.name, f"{type(found).__name__}: {found}"[:600])


def _leave_out(bench: Workbench, wanted: list[Measurement], error: Exception) -> None:
    for each in wanted:
        if each.name not in bench.figures.left_out:
            bench.figures.leave_out(each.name, str(error)[:600])


def _write(plan: Plan, figures: Figures) -> None:
    title = f"graft bench lora: {plan.shape.name}, {', '.join(plan.forms)}, {plan.num_pairs} pairs"
    picture.write(figures, title, json=plan.json, picture=plan.picture)
    if plan.picture is not None and figures.taken:
        print(f"picture: {plan.picture}")
