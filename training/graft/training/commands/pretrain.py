"""``graft pretrain``: trains a base from generated documents."""

import argparse
from pathlib import Path

from graft.training.threads import wait_without_spinning

HELP = "train a base model from a recipe"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--recipe", default="rootstock-5m", help="name of the recipe (default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, required=True, help="folder for the finished base, in Hugging Face format"
    )
    parser.add_argument(
        "--work", type=Path, help="folder for checkpoints and metrics (default: .graft/pretrain/<recipe>)"
    )
    parser.add_argument("--steps", type=int, help="optimizer steps (default: the recipe's)")
    parser.add_argument("--seed", type=int, default=0, help="decides weights and documents (default: %(default)s)")
    parser.add_argument(
        "--trials",
        type=int,
        default=200,
        help="held-out questions per setting for the model card (default: %(default)s)",
    )
    parser.add_argument("--resume", action="store_true", help="go on from the newest finished checkpoint")
    parser.add_argument("--plan", action="store_true", help="print what would be done, and stop")


def run(args: argparse.Namespace) -> int:
    wait_without_spinning()
    from graft.training.pretraining import Pretrain
    from graft.training.recipes.catalog import pretraining

    work = args.work or Path(".graft") / "pretrain" / args.recipe
    recipe = pretraining(args.recipe, num_steps=args.steps, seed=args.seed)
    job = Pretrain(recipe=recipe, work=work, output=args.output, num_trials=args.trials)
    if args.plan:
        print(job.plan())
    else:
        job.execute(resume=args.resume)
    return 0
