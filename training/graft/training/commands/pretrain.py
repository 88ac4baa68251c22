"""``graft pretrain``: trains a base on text, or from the generated documents of a recipe."""

import argparse
from pathlib import Path
from typing import Any

from graft.training.launch import launching
from graft.training.pretrain.settings import PretrainSettings
from graft.training.runtime.startup import prepare
from graft.training.settings.limits import number, require
from graft.training.settings.settings import add_flags, given

_TOLD = ("validation_loss", "perplexity", "accuracy")
HELP = "train a base model, on text or from a recipe"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", type=Path, required=True, help="folder for the finished base, in Hugging Face format"
    )
    parser.add_argument(
        "--work", type=Path, help="folder for checkpoints and metrics (default: .graft/pretrain/<name of output>)"
    )
    parser.add_argument("--config", type=Path, help="YAML, JSON or TOML file of settings; flags win over it")
    parser.add_argument("--recipe", help="make a shipped base again, from generated documents: rootstock-5m")
    launching.add_flags(parser)
    parser.add_argument("--push", metavar="HOST:PORT", help="register the finished base with this server")
    parser.add_argument("--plan", action="store_true", help="print what it would take and the layouts that fit")
    parser.add_argument("--devices", type=int, help="with --plan: so many (default: 1)")
    parser.add_argument(
        "--memory", metavar="BYTES", help="with --plan: of each device, such as 80G (default: this one's)"
    )
    parser.add_argument(
        "--trials",
        type=int,
        default=200,
        help="with --recipe: held-out questions per setting for the model card (default: %(default)s)",
    )
    add_flags(parser, PretrainSettings)


def run(args: argparse.Namespace) -> int:
    prepare()
    values = given(args, PretrainSettings)
    work = args.work or Path(".graft") / "pretrain" / args.output.name
    if args.recipe is not None:
        return _make_again(args, values, work)
    return _train_on_text(args, PretrainSettings.from_mapping(values), work)


def _train_on_text(args: argparse.Namespace, settings: PretrainSettings, work: Path) -> int:
    from graft.adapters.base.hub import FILE_NAME, Hub
    from graft.adapters.names import check_name
    from graft.training.errors import ConfigurationError
    from graft.training.job.publish import check_server, connect
    from graft.training.pretrain.fetched import fetched
    from graft.training.pretrain.job import PretrainText

    if args.push is not None:
        check_name(args.output.name, what="base")
        check_server(args.push)
    settings = fetched(settings, Hub(pins=work / FILE_NAME), weights=not args.plan)
    job = PretrainText(settings=settings, work=work, output=args.output)
    if args.plan:
        devices = 1 if args.devices is None else args.devices
        require(devices >= 1, "--devices", devices, "at least 1")
        print(job.plan(devices=devices, device_bytes=number("--memory", args.memory) if args.memory else None))
        return 0
    for flag in ("devices", "memory"):
        if getattr(args, flag) is not None:
            raise ConfigurationError(f"--{flag} is for --plan: add that, or leave it out.")
    is_first, metrics = launching.launch(job, args)
    if is_first:
        told = ", ".join(f"{name} {value:.4g}" for name, value in (metrics or {}).items() if name.endswith(_TOLD))
        print(f"base in {args.output}, loss curve in {work / 'loss_curve.png'}{': ' + told if told else ''}")
        if args.push is not None:
            with connect(args.push) as client:
                pushed = client.push_base(args.output, name=args.output.name)
            print(f"pushed as {pushed.name} ({pushed.digest}): graft serve --base {pushed.name}, on that server's data")
    return 0


def _make_again(args: argparse.Namespace, values: dict[str, Any], work: Path) -> int:
    from graft.training.errors import ConfigurationError
    from graft.training.job.export import check_output
    from graft.training.rootstock.job import Pretrain
    from graft.training.rootstock.recipe import recipe_of

    recipe = recipe_of(args.recipe, num_steps=values.get("max_steps"), seed=values.get("seed", 0))
    check_output(args.output, work=work, inputs=())
    flags = {name for name in ("push", "ray", "ray_address", "devices", "memory") if getattr(args, name) is not None}
    if others := sorted(set(values) - {"max_steps", "seed"} | flags):
        raise ConfigurationError(
            f"--recipe {args.recipe} decides everything but --max-steps and --seed; leave out {', '.join(others)}."
        )
    job = Pretrain(recipe=recipe, work=work, output=args.output, num_trials=args.trials)
    if args.plan:
        print(job.plan())
    else:
        job.execute(resume=args.resume)
    return 0
