"""``graft finetune``: trains on a base, by any method, to an adapter or to another base."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from graft.training.commands.arguments.base import BASE, base_of, configured
from graft.training.commands.arguments.pushing import push
from graft.training.commands.finetuning import task as finetune_task
from graft.training.finetune.audit.command import add_audit_flags, run_audit
from graft.training.finetune.settings import FinetuneSettings
from graft.training.launch import launching
from graft.training.launch.machine import Machine, add_plan_flags, check_plan_flags
from graft.training.runtime.startup import prepare
from graft.training.settings.settings import add_flags, given
from graft.training.tasks.settings import TaskSettings

if TYPE_CHECKING:
    from graft.training.finetune.skeleton import Frozen

HELP = "train an adapter on a quantized base, or the base itself"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", default="rootstock-5m", help=f"{BASE} (default: %(default)s)")
    parser.add_argument(
        "--data",
        action="append",
        metavar="FILE[:WEIGHT]",
        help="JSON lines, a JSON array, Parquet or Arrow with messages, prompt and completion, text, or rows of Alpaca "
        "or ShareGPT. Several times for several files; a weight is a file's share of each epoch's rows, by rows that "
        "are left out or repeated. --plan needs none",
    )
    parser.add_argument("--name", help="name of the adapter; --plan needs none")
    parser.add_argument(
        "--output", type=Path, help="folder for checkpoints, metrics and adapter/ (default: .graft/finetune/NAME)"
    )
    parser.add_argument(
        "--sweep",
        type=Path,
        metavar="FILE",
        help="YAML, JSON or TOML file of several trainings at once on one base: a grid of settings, or a list of runs",
    )
    parser.add_argument("--config", type=Path, help="YAML, JSON or TOML file of settings; flags win over it")
    launching.add_flags(parser)
    add_plan_flags(parser)
    add_audit_flags(parser)
    parser.add_argument("--push", metavar="HOST:PORT", help="push the finished adapter to this server")
    parser.add_argument("--alias", help="alias that moves to the pushed version, such as canary or stable")
    add_flags(parser, FinetuneSettings)
    finetune_task.configure(parser, FinetuneSettings)


def run(args: argparse.Namespace) -> int:
    prepare()
    from graft.adapters.names import check_adapter_name, check_name
    from graft.training.errors import ConfigurationError
    from graft.training.job.export import check_adapter_output
    from graft.training.job.sources import Sources

    check_plan_flags(args)
    is_task = finetune_task.is_meant(args, FinetuneSettings)
    if is_task:
        finetune_task.check(args)
    if args.sweep is not None and is_task:
        raise ConfigurationError("--sweep trains on next tokens only: leave --task out, or train one by one.")
    if args.sweep is not None:
        from graft.training.commands.finetuning.sweep import run_sweep

        return run_sweep(args)
    values = given(args, TaskSettings if is_task else FinetuneSettings)
    data = args.data or values.pop("data", None)
    values.pop("data", None)
    settings = FinetuneSettings.from_mapping({} if is_task else values)
    if args.plan:
        return _plan(args, settings)
    for flag, said, others in (("data", data, "--plan"), ("name", args.name, "--plan and --audit")):
        if said is None and not (flag == "name" and args.audit):
            raise ConfigurationError(f"--{flag} is missing; without it there is only {others}.")
    sources = Sources.parse(data)
    if args.audit:
        return run_audit(args, base_of(args, Path(".graft")), sources, settings)
    check_adapter_name(args.name)
    if args.alias is not None:
        check_name(args.alias, what="alias")
        if args.push is None:
            raise ConfigurationError("--alias moves an alias on a server; add --push HOST:PORT.")
    folder = args.output or Path(".graft") / "finetune" / args.name
    check_adapter_output(folder)
    base = base_of(args, folder)
    if is_task:
        return finetune_task.run(args, base, sources, folder)

    from graft.training.adapt.made.pushing import check_push
    from graft.training.adapt.made.written import folder_of
    from graft.training.finetune.job import Finetune

    job = Finetune(base=base, data=sources, settings=settings, work=folder)
    method, adaptable = job.method()
    way = method.way(adaptable)
    if args.push is not None:
        check_push(args.push, base, job.form, way)
    launching.say(f"{method.name} on {base.name}: {way}")
    is_first, _ = launching.launch(job, args)
    if not is_first:
        return 0
    made = folder / folder_of(method, adaptable)
    print(f"{made.name} in {made}, all about it in {folder / 'report.html'}")
    if settings.holds_out:
        print(_measured(folder, settings))
    if args.push is not None:
        push(args.push, made, name=args.name, alias=args.alias)
    return 0


def _plan(args: argparse.Namespace, settings: FinetuneSettings) -> int:
    from graft.training.finetune.plan import plan

    teacher = None if settings.teacher is None else _teacher(settings.teacher)
    print(plan(configured(args.base), settings, Machine.of(args), teacher=teacher))
    return 0


def _teacher(text: str) -> Frozen:
    """Of ``BASE`` or ``BASE,ADAPTER``; an adapter says in which form its base is held."""
    from graft.adapters.folder.record import TrainedRecord
    from graft.training.finetune.skeleton import Frozen

    name, _, adapter = text.partition(",")
    record = TrainedRecord.read(Path(adapter).expanduser()) if adapter else None
    return Frozen.of(configured(name), None if record is None else record.form)


def _measured(folder: Path, settings: FinetuneSettings) -> str:
    """What was measured on what is held out: of the weights that the training ended with."""
    from graft.training.loop.progress import read_metrics

    measured = [row for row in read_metrics(folder) if row.get("validation_loss") is not None]
    best = min(measured, key=lambda row: float(row["validation_loss"]))
    row = best if settings.load_best_model_at_end else measured[-1]
    loss, perplexity = row["validation_loss"], row["validation_perplexity"]
    place = settings.validation or f"{settings.validation_split:.3g} of the rows"
    return f"after {row['step'] + 1} steps on {place}: loss {loss:.4f}, perplexity {perplexity:.2f}"
