"""The demo from beginning to end: make adapters, serve them, swap one under load, leave nothing behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

from graft.cli.demo.base_chapter import show_base
from graft.cli.demo.batch_chapter import show_batch
from graft.cli.demo.openai_chapter import show_openai
from graft.cli.demo.report import Report
from graft.cli.demo.swap_chapter import show_swap
from graft.cli.demo.variety import BASE, DATES_US, SERVED_FIRST, Trained, Variety, train_all
from graft.cli.server_process import RunningServer, ServerProcess
from graft.client import AsyncClient, Client
from graft.v1 import common_pb2


def run_demo(work: Path) -> bool:
    """Run every chapter with files below `work`; whether every claim holds."""
    report = Report()
    process = ServerProcess(work, "--base", BASE)
    try:
        _chapters(process, work, report)
    finally:
        left = process.stop()
    report.chapter("Afterwards")
    report.claim("nothing is left running", "no process" if not left else f"processes {left}", not left)
    return report.summary()


def _chapters(process: ServerProcess, work: Path, report: Report) -> None:
    report.chapter("Adapters are trained on the spot (QLoRA on the 4-bit base) while the server starts")
    trained = train_all(SERVED_FIRST, work, report)
    server = process.wait_ready()
    with Client(server.target) as client:
        report.chapter("The base alone, through the server")
        _introduce(client, report)
        show_base(server, client, work, report)
        report.chapter("Adapters join the running server")
        for variety in SERVED_FIRST:
            _push(client, variety, trained[variety], report)
    trained[DATES_US] = asyncio.run(_under_load(server, trained, work, report))
    report.chapter("Through the openai package")
    show_openai(server, trained, report)


def _introduce(client: Client, report: Report) -> None:
    # On a machine at its limit the engine may have been replaced meanwhile.
    info = client.wait_ready()
    form = common_pb2.ServingForm.Name(info.form).removeprefix("SERVING_FORM_").lower()
    report.say(
        f"{info.base.name}, {info.base.num_parameters / 1e6:.1f}M parameters in {form}, "
        f"engine {info.engine_version}, LoRA by {info.lora_kernel}, {info.limits.num_slots} slots"
    )


def _push(client: Client, variety: Variety, trained: Trained, report: Report) -> None:
    push = client.push_adapter(trained.folder, name=variety.name, alias="stable")
    loaded = "" if push.load_seconds is None else f", in the engine after {push.load_seconds * 1000:.0f} ms"
    report.say(f"{variety.name}:stable = version {push.version.number}, rank {push.version.rank}{loaded}")


async def _under_load(server: RunningServer, trained: dict[Variety, Trained], work: Path, report: Report) -> Trained:
    async with AsyncClient(server.target) as client:
        report.chapter("One batch: the base and two adapters at once")
        await show_batch(client, trained, report)
        report.chapter("Hot swap: dates goes from 2031-05-04 to 05/04/2031 under 16 running streams")
        return await show_swap(client, trained, work, report)
