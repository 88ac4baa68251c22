"""``graft align``: trains an adapter on what people prefer, or a reward model."""

import argparse
from dataclasses import replace
from pathlib import Path

from graft.training.commands.finetune import add_flags_on_base, base_of, check_named, configured, push
from graft.training.launch import launching
from graft.training.launch.machine import Machine, check_plan_flags
from graft.training.preference.settings import JUDGED, REWARD, AlignSettings
from graft.training.runtime.startup import prepare
from graft.training.settings.settings import add_flags, given

HELP = "train an adapter on preferences (DPO, KTO, ORPO, SimPO …), or a reward model"


def configure(parser: argparse.ArgumentParser) -> None:
    add_flags_on_base(
        parser,
        rows="rows of prompt, chosen and rejected, or of prompt, completion and label",
        default=".graft/align",
    )
    add_flags(parser, AlignSettings)


def run(args: argparse.Namespace) -> int:
    prepare()
    from graft.training.job.export import check_adapter_output

    settings = AlignSettings.from_mapping(given(args, AlignSettings))
    check_plan_flags(args)
    if args.plan:
        print(_plan(args, settings))
        return 0
    check_named(args)
    _check_push(args, settings)
    folder = args.output or Path(".graft") / "align" / args.name
    check_adapter_output(folder)
    base = base_of(args, folder)

    from graft.training.adapt.pushing import check_push
    from graft.training.adapt.written import folder_of
    from graft.training.preference.job import Align

    job = Align(base=base, data=args.data, settings=settings, work=folder)
    method, adaptable = job.method()
    if args.push is not None:
        check_push(args.push, base, job.form, method.way(adaptable))
    is_first, _ = launching.launch(job, args)
    if not is_first:
        return 0
    made = folder / folder_of(method, adaptable)
    print(f"{made.name} in {made}, loss curve in {folder / 'loss_curve.png'}")
    if settings.validation is not None:
        print(_measured(folder, settings.validation))
    if args.push is not None:
        push(args.push, made, name=args.name, alias=args.alias)
    return 0


def _check_push(args: argparse.Namespace, settings: AlignSettings) -> None:
    from graft.training.errors import ConfigurationError

    if args.push is not None and settings.loss_type == REWARD:
        raise ConfigurationError(
            "--push: a reward model answers with a number, and what a server is pushed here answers with text; leave "
            "--push out."
        )


def _plan(args: argparse.Namespace, settings: AlignSettings) -> str:
    from graft.training.finetune.plan import plan

    folder, machine = configured(args.base), Machine.of(args)
    if settings.loss_type in JUDGED:
        return plan(folder, settings, machine)
    answers = replace(settings, per_device_train_batch_size=2 * settings.per_device_train_batch_size)
    told = "rows are answers: a pair, of which --per-device-train-batch-size says how many, has two"
    return f"{plan(folder, answers, machine)}\n{told}"


def _measured(folder: Path, validation: str) -> str:
    """The last that was measured on what is held out."""
    from graft.training.loop.progress import read_metrics

    last = [row for row in read_metrics(folder) if row.get("validation_loss") is not None][-1]
    told = [f"loss {last['validation_loss']:.4f}"]
    for name in ("rewards/accuracies", "accuracy"):
        if (share := last.get(f"validation_{name}")) is not None:
            told.append(f"{share:.1%} of the pairs the right way round")
    return f"after {last['step'] + 1} steps on {validation}: {', '.join(told)}"
