"""``graft reinforce``: trains an adapter on rewards, sampled on the running server."""

import argparse
from pathlib import Path

from graft.training.commands.arguments.base import BASE, base_of
from graft.training.commands.arguments.pushing import push
from graft.training.runtime.startup import prepare
from graft.training.settings.settings import add_flags, given

HELP = "train an adapter on rewards (GRPO, DAPO, RLOO, PPO …) with a running server's own samples"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", default="rootstock-5m", help=f"{BASE} (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="rows with messages or prompt, and what the grader reads of them")
    parser.add_argument("--server", metavar="HOST:PORT", help="the gRPC of the server that samples")
    parser.add_argument("--name", help="name of the adapter; versions that sample are called NAME-policy")
    worth = parser.add_mutually_exclusive_group()
    worth.add_argument("--grader", type=Path, metavar="FILE", help="a grader as OpenAI's API has it, for the server")
    worth.add_argument(
        "--reward",
        metavar="FILE.py:FUNCTION",
        help="in its place a function of a row and an answer's text, in this process; also MODULE:FUNCTION",
    )
    parser.add_argument(
        "--output", type=Path, help="folder for checkpoints, metrics and adapter/ (default: .graft/reinforce/NAME)"
    )
    parser.add_argument("--config", type=Path, help="YAML, JSON or TOML file of settings; flags win over it")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    parser.add_argument(
        "--idle", action="store_true", help="compute only while nothing else wants the processors, such as the server"
    )
    parser.add_argument("--alias", help="push the finished adapter as NAME, and move this alias to it")
    from graft.training.reinforce.settings import ReinforceSettings

    add_flags(parser, ReinforceSettings)


def run(args: argparse.Namespace) -> int:
    prepare()
    from graft.adapters.names import check_adapter_name, check_name
    from graft.training.errors import ConfigurationError
    from graft.training.job.export import check_adapter_output
    from graft.training.reinforce.settings import ReinforceSettings
    from graft.training.runtime.idle import compute_when_idle

    if args.idle:
        compute_when_idle()
    settings = ReinforceSettings.from_mapping(given(args, ReinforceSettings))
    if missing := [f"--{flag}" for flag in ("data", "server", "name") if getattr(args, flag) is None]:
        raise ConfigurationError(f"{', '.join(missing)} must be said.")
    check_adapter_name(args.name)
    if args.alias is not None:
        check_name(args.alias, what="alias")
    folder = args.output or Path(".graft") / "reinforce" / args.name
    check_adapter_output(folder)

    from graft.training.reinforce.asking.grading import read_grader
    from graft.training.reinforce.job import Reinforce

    job = Reinforce(
        base=base_of(args, folder),
        data=args.data,
        settings=settings,
        work=folder,
        server=args.server,
        policy=f"{args.name}-policy",
        grader=None if args.grader is None else read_grader(args.grader),
        reward=args.reward,
    )
    made = job.execute(resume=args.resume)
    print(f"{made.name} in {made}")
    if args.alias is not None:
        push(args.server, made, name=args.name, alias=args.alias)
    return 0
