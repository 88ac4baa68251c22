"""The whole of `graft bench forms`: makes a base's forms, serves each, and measures them in turn."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from graft.adapters.base.base import Base, find_base
from graft.adapters.base.hub import Hub
from graft.adapters.form import ServingForm
from graft.bench.serving.adapters import make_adapters
from graft.bench.serving.figures import picture
from graft.bench.serving.figures.figures import RATIO, Figures, median_of
from graft.bench.serving.forms.held_out import perplexity, read_texts, windows_of
from graft.bench.serving.forms.table import BATCHES, LOADS, speed, table
from graft.bench.serving.measurements.workbench import say
from graft.bench.serving.peers.contenders import ANSWER_TOKENS, EngineContender, rows_of, throughput
from graft.bench.serving.peers.engines import started
from graft.bench.serving.processes import BenchFailed, errors_into
from graft.bench.serving.shapes import SHAPES, context_of, make_base
from graft.bench.serving.usage import proportional_mb

if TYPE_CHECKING:
    from graft.server.engine.vllm.engine import VllmEngine

_NUM_ADAPTERS = max(LOADS)
_CONTEXT = 1024
_PLAIN = (ServingForm.BF16, ServingForm.FP32)
_QUANTIZE_SECONDS = 3600.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What was asked for. `alone` measures one engine at a time; `folder` keeps files, None for a temporary one."""

    base: str
    forms: tuple[ServingForm, ...]
    text: Path | None
    calibration: Path | None
    num_rounds: int
    alone: bool
    json: Path | None
    picture: Path | None
    folder: Path | None


def measure(plan: Plan) -> int:
    """Print the figures as they are taken and the table at the end, then write."""
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")  # standard output is for figures
    figures = Figures()
    with ExitStack() as stack:
        folder = plan.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="graft-forms-")))
        folder.mkdir(parents=True, exist_ok=True)
        origin = _origin(plan, folder)
        bases = [_made(plan, origin, form, folder) for form in plan.forms]
        adapters = make_adapters(origin, folder / origin.name, _NUM_ADAPTERS)
        try:
            with errors_into(folder / "bench.log"):
                asyncio.run(_measure(plan, bases, adapters, figures))
        finally:
            # What was taken before an interruption is worth keeping.
            _write(plan, origin, figures)
    return 0


def _write(plan: Plan, origin: Base, figures: Figures) -> None:
    print(f"\n{table(origin, plan.forms, figures.taken)}", flush=True)
    title = f"graft bench forms: {origin.name}, {plan.num_rounds} rounds"
    picture.write(figures, title, json=plan.json, picture=plan.picture)


def _origin(plan: Plan, folder: Path) -> Base:
    if plan.base in SHAPES and SHAPES[plan.base].config_class:
        return make_base(SHAPES[plan.base], folder)
    origin = Base.from_folder(find_base(plan.base, hub=Hub()))
    if origin.form is not None:
        raise BenchFailed(f"{origin.path} is {origin.form} already; name the plain base")
    return origin


def _made(plan: Plan, origin: Base, form: ServingForm, folder: Path) -> Base:
    """The base in this form, by the command that any user has: training and serving meet on files only."""
    if form in _PLAIN:
        return origin
    output = folder / f"{origin.name}-{form}"
    if not output.exists():
        say(f"making {output.name}")
        command = [sys.executable, "-m", "graft.cli.main", "quantize", str(origin.path)]
        command += ["--form", form, "--output", str(output)]
        if form is ServingForm.INT4 and (text := _calibration(plan, folder)) is not None:
            command += ["--calibration", str(text)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_QUANTIZE_SECONDS, check=False)
        if done.returncode:
            raise BenchFailed(f"graft quantize --form {form} failed: {done.stderr.strip()[-600:]}")
    made = Base.from_folder(output)
    if made.digest != origin.digest:
        raise BenchFailed(f"{output} was made from another base ({made.digest}); remove it")
    return made


def _calibration(plan: Plan, folder: Path) -> Path | None:
    if plan.calibration is not None or plan.base not in SHAPES:
        return plan.calibration
    # Random weights learned nothing: any text will do.
    path = folder / "calibration.txt"
    path.write_text("".join(chr(97 + number * number % 23) for number in range(8192)), encoding="utf-8")
    return path


async def _measure(plan: Plan, bases: Sequence[Base], adapters: Sequence[Path], figures: Figures) -> None:
    if plan.alone:
        for form, base in zip(plan.forms, bases, strict=True):
            async with _served(form, base, adapters, figures) as contender:
                await _take(plan, {form: contender}, base, figures)
        return
    async with AsyncExitStack() as stack:
        contenders = {
            form: await stack.enter_async_context(_served(form, base, adapters, figures))
            for form, base in zip(plan.forms, bases, strict=True)
        }
        await _take(plan, contenders, bases[0], figures)


@contextlib.asynccontextmanager
async def _served(
    form: ServingForm, base: Base, adapters: Sequence[Path], figures: Figures
) -> AsyncIterator[EngineContender]:
    say(f"starting an engine: {form}")
    contender = await started(base.path, base.name, form, adapters, context=min(context_of(base), _CONTEXT))
    try:
        figures.add(f"{form}_size_mb", median_of([base.size_bytes / 1e6], "MB"))
        figures.add(f"{form}_memory_mb", median_of([proportional_mb(contender.engine.pid)], "MB"))
        await contender.load()
        yield contender
    finally:
        await contender.engine.close()


async def _take(plan: Plan, contenders: dict[ServingForm, EngineContender], base: Base, figures: Figures) -> None:
    if plan.text is not None:
        for form, contender in contenders.items():
            figures.add(f"{form}_perplexity", median_of([await _perplexity(contender.engine, plan.text)], "per token"))
    for batch in BATCHES:
        for load in LOADS:
            runs = await _speeds(plan, contenders, base, batch, load)
            for form, found in runs.items():
                figures.add(speed(form, batch, load), median_of(found, "tokens/s"))
            _add_ratios(runs, batch, load, figures)


async def _perplexity(engine: VllmEngine, text: Path) -> float:
    tokenizer = engine.llm.get_tokenizer()
    windows = windows_of(read_texts(text), lambda each: list(tokenizer(each)["input_ids"]), length=_CONTEXT - 1)
    return await perplexity(engine, windows)


async def _speeds(
    plan: Plan, contenders: dict[ServingForm, EngineContender], base: Base, batch: int, load: int
) -> dict[ServingForm, list[float]]:
    """Tokens per second of every form, round by round, each round beginning with another form; one round warms up."""
    runs: dict[ServingForm, list[float]] = {form: [] for form in contenders}
    order = list(contenders)
    for number in range(-1, plan.num_rounds):
        start = number % len(order)
        for form in order[start:] + order[:start]:
            seed = f"forms/{batch}/{load}/{number}"
            rows = rows_of(batch, num_adapters=load, vocab_size=base.vocab_size, seed=seed)
            found = await throughput(contenders[form], rows, ANSWER_TOKENS)
            if number >= 0:
                runs[form].append(found)
    return runs


def _add_ratios(runs: dict[ServingForm, list[float]], batch: int, load: int, figures: Figures) -> None:
    """Each round's speed over bf16's of the same round."""
    reference = runs.get(ServingForm.BF16)
    for form, found in runs.items():
        if reference is not None and form is not ServingForm.BF16:
            ratios = [one / other for one, other in zip(found, reference, strict=True)]
            figures.add(f"{speed(form, batch, load)}_over_bf16", median_of(ratios, RATIO))
