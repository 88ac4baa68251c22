"""``graft bench training``: speed, memory and loss of Graft's training loop beside Hugging Face's Trainer."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "measure pretraining against Hugging Face's Trainer: speed, memory, loss, MFU"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shape", choices=("16m", "1b"), help="size of the model (default: 16m on CPUs, 1b on a GPU)")
    parser.add_argument("--text", type=Path, metavar="FILE", help="text to train on (default: generated documents)")
    parser.add_argument("--pairs", type=int, default=3, help="trainings by each, in turn (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=24, help="of each training (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="write a picture (PNG) here (default: beside the JSON)"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, print a Markdown table and write. Returns 0."""
    from graft.bench.training.comparison import Plan, measure
    from graft.bench.training.report import draw, table, write_json
    from graft.training.errors import ConfigurationError
    from graft.training.rootstock.corpus.mixture import ROOTSTOCK
    from graft.training.runtime.device import device_kind

    if args.pairs < 1:
        raise ConfigurationError(f"--pairs {args.pairs}: must be at least 1.")
    if args.steps < 8:
        raise ConfigurationError(f"--steps {args.steps}: must be at least 8, as the first four do not count.")
    for path in (args.json, args.picture):
        if path is not None and not path.absolute().parent.is_dir():
            raise ConfigurationError(f"{path}: there is no folder {path.absolute().parent}.")
    shape = args.shape or ("1b" if device_kind() == "cuda" else "16m")
    plan = Plan(shape=shape, text=args.text, generated=ROOTSTOCK.texts, num_pairs=args.pairs, num_steps=args.steps)
    figures = measure(plan)
    print(table(figures))
    picture = args.picture or (args.json.with_suffix(".png") if args.json else None)
    if args.json is not None:
        write_json(figures, args.json)
    if picture is not None:
        draw(figures, picture)
    return 0
