"""``graft align``: trains an adapter on what people prefer, or a reward model."""

import argparse
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from graft.training.commands.arguments.base import BASE, base_of, configured
from graft.training.commands.arguments.pushing import push
from graft.training.launch import launching
from graft.training.launch.machine import Machine, add_plan_flags, check_plan_flags
from graft.training.runtime.startup import prepare
from graft.training.settings.settings import add_flags, given

if TYPE_CHECKING:  # commands are listed without torch
    from contextlib import AbstractContextManager

    from graft.training.preference.settings import AlignSettings

_OWN = "up"
"""In --output: what a server of a chain's own keeps."""
_NOT_OF_CHAINS = ("plan", "ray", "ray_address", "resume")
HELP = "train an adapter on preferences (DPO, KTO, ORPO, SimPO …), a reward model, or InstructGPT's chain"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", default="rootstock-5m", help=f"{BASE} (default: %(default)s)")
    parser.add_argument(
        "--data",
        type=Path,
        help="rows of prompt, chosen and rejected, of OpenAI's preferred_output, or of prompt, completion and label",
    )
    parser.add_argument("--name", help="name of the adapter")
    parser.add_argument(
        "--output", type=Path, help="folder for checkpoints, metrics and adapter/ (default: .graft/align/NAME)"
    )
    parser.add_argument("--config", type=Path, help="YAML, JSON or TOML file of settings; flags win over it")
    parser.add_argument(
        "--chain",
        action="store_true",
        help="InstructGPT's chain from rows of prompt, chosen and rejected: supervised fine-tuning, a reward model and "
        "PPO, each a job of --server; --config has sections supervised, reward and ppo. The same again goes on",
    )
    parser.add_argument(
        "--server",
        metavar="HOST:PORT",
        help="of --chain: the gRPC of a server with a worker, such as graft up (default: one of its own in --output)",
    )
    launching.add_flags(parser)
    add_plan_flags(parser)
    parser.add_argument("--push", metavar="HOST:PORT", help="push the finished adapter to this server")
    parser.add_argument("--alias", help="alias that moves to the pushed version, such as canary or stable")
    from graft.training.preference.settings import AlignSettings

    add_flags(parser, AlignSettings)


def run(args: argparse.Namespace) -> int:
    prepare()
    if args.chain:
        return _chain(args)
    from graft.training.errors import ConfigurationError

    if args.server is not None:
        raise ConfigurationError("--server carries out a --chain; a finished adapter goes to --push HOST:PORT.")
    from graft.training.job.export import check_adapter_output
    from graft.training.preference.settings import AlignSettings

    settings = AlignSettings.from_mapping(given(args, AlignSettings))
    check_plan_flags(args)
    if args.plan:
        print(_plan(args, settings))
        return 0
    _check(args)
    folder = args.output or Path(".graft") / "align" / args.name
    check_adapter_output(folder)
    base = base_of(args, folder)

    from graft.training.adapt.made.pushing import check_push
    from graft.training.adapt.made.written import folder_of
    from graft.training.adapt.method import Route
    from graft.training.preference.job import Align

    job = Align(base=base, data=args.data, settings=settings, work=folder)
    method, adaptable = job.method()
    way = method.way(adaptable)
    if args.push is not None:
        check_push(args.push, base, job.form, way, has_head=job.is_reward)
    if job.is_reward:
        taken = "served as it is, for graders of the type reward_model"
        told = taken if way.route is Route.AS_IS else "no server takes it; peft loads it"
        launching.say(f"a reward model by {method.name} on {base.name}: {told}")
    else:
        launching.say(f"{settings.loss_type} by {method.name} on {base.name}: {way}")
    is_first, _ = launching.launch(job, args)
    if not is_first:
        return 0
    made = folder / folder_of(method, adaptable)
    print(f"{made.name} in {made}, all about it in {folder / 'report.html'}")
    if settings.validation is not None:
        print(_measured(folder, settings.validation))
    if args.push is not None:
        push(args.push, made, name=args.name, alias=args.alias)
    return 0


def _chain(args: argparse.Namespace) -> int:
    from graft.adapters.names import check_adapter_name
    from graft.training.chain import report
    from graft.training.chain.chain import Chain
    from graft.training.chain.settings import ChainSettings
    from graft.training.errors import ConfigurationError
    from graft.training.preference.settings import AlignSettings
    from graft.training.settings.settings import read_settings
    from graft.training.tour.server import served_with_worker

    if flags := list(given(argparse.Namespace(**{**vars(args), "config": None}), AlignSettings)):
        raise ConfigurationError(f"--chain has settings of three trainings: write {', '.join(flags)} in its --config.")
    check_plan_flags(args)
    if useless := [f"--{flag.replace('_', '-')}" for flag in _NOT_OF_CHAINS if getattr(args, flag)]:
        raise ConfigurationError(
            f"--chain takes no {', '.join(useless)}: the server's worker trains, and jobs that are there are gone on "
            "with."
        )
    missing = [f"--{flag}" for flag in ("data", "name") if getattr(args, flag) is None]
    if missing or args.push is not None or args.alias is not None:
        raise ConfigurationError(
            "--chain needs --data and --name, and takes no --push and no --alias: jobs push what they make."
        )
    check_adapter_name(args.name)
    folder = args.output or Path(".graft") / "align" / args.name

    base = base_of(args, folder)

    def serve() -> "AbstractContextManager[str]":
        if args.server is not None:
            return nullcontext(args.server)
        return served_with_worker(folder / _OWN, "--base", str(base.path), "--parity", "recorded")

    chain = Chain(
        base=base,
        data=args.data,
        name=args.name,
        settings=ChainSettings.from_mapping(read_settings(args.config) if args.config else {}),
        serve=serve,
        tell=launching.say,
    )
    found = chain.execute()
    report.write(found, folder)
    print(report.told(found.measured))
    where = args.server or f"graft serve --base {base.path} --data-dir {folder / _OWN / 'data'}"
    print(f"{args.name} answers on {where}; all about it in {folder / report.PAGE}")
    return 0


def _check(args: argparse.Namespace) -> None:
    from graft.adapters.names import check_adapter_name, check_name
    from graft.training.errors import ConfigurationError

    for flag in ("data", "name"):
        if getattr(args, flag) is None:
            raise ConfigurationError(f"--{flag} is missing; without it there is only --plan.")
    check_adapter_name(args.name)
    if args.alias is not None:
        check_name(args.alias, what="alias")
        if args.push is None:
            raise ConfigurationError("--alias moves an alias on a server; add --push HOST:PORT.")


def _plan(args: argparse.Namespace, settings: "AlignSettings") -> str:
    from graft.training.finetune.plan import plan

    folder, machine = configured(args.base), Machine.of(args)
    from graft.training.preference.settings import JUDGED

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
