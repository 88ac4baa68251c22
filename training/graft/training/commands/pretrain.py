"""``graft pretrain``: trains a base on text, or from the generated documents of a recipe."""

import argparse
from pathlib import Path
from typing import Any

from graft.training.launch import launching
from graft.training.launch.machine import Machine, add_plan_flags, check_plan_flags
from graft.training.pretrain.settings import PretrainSettings
from graft.training.runtime.startup import prepare
from graft.training.settings.settings import add_flags, given

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
    add_plan_flags(parser)
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
    from graft.training.job.publish import check_server, connect
    from graft.training.pretrain.fetched import fetched
    from graft.training.pretrain.job import PretrainText
    from graft.training.pretrain.told import MEASURES

    if args.push is not None:
        check_name(args.output.name, what="base")
        check_server(args.push)
    check_plan_flags(args)
    settings = fetched(settings, Hub(pins=work / FILE_NAME), weights=not args.plan)
    job = PretrainText(settings=settings, work=work, output=args.output)
    if args.plan:
        print(job.plan(Machine.of(args)))
        return 0
    is_first, metrics = launching.launch(job, args)
    if is_first:
        told = ", ".join(f"{name} {value:.4g}" for name, value in (metrics or {}).items() if name.endswith(MEASURES))
        print(f"base in {args.output}, all about it in {work / 'report.html'}{': ' + told if told else ''}")
        if args.push is not None:
            with connect(args.push) as client:
                pushed = client.push_base(args.output, name=args.output.name)
            print(f"pushed as {pushed.name} ({pushed.digest}): graft serve --base {pushed.name}, on that server's data")
    return 0


def _make_again(args: argparse.Namespace, values: dict[str, Any], work: Path) -> int:
    from graft.training.errors import ConfigurationError
    from graft.training.job.export import check_output, check_replaced
    from graft.training.rootstock.card import is_made_by
    from graft.training.rootstock.job import Pretrain
    from graft.training.rootstock.recipe import recipe_of

    recipe = recipe_of(args.recipe, num_steps=values.get("max_steps"), seed=values.get("seed", 0))
    check_output(args.output, work=work, inputs=())
    check_replaced(args.output, is_own=lambda folder: is_made_by(recipe, folder))
    flags = {
        name for name in ("push", "ray", "ray_address", "devices", "memory", "gpu") if getattr(args, name) is not None
    }
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
