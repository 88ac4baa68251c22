"""``graft bench training``: speed, memory and loss of Graft's training loop beside Hugging Face's Trainer; its output
head beside torch's; what a step takes beside its model; eight adapters at once beside one after another.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graft.bench.training.comparison import Figure

HELP = "measure pretraining against Hugging Face's Trainer: speed, memory, loss, MFU"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only",
        choices=("trainer", "head", "host", "together", "dpo", "sft"),
        default="trainer",
        help="trainer: against Hugging Face's; head: the output head against torch's; host: the part of a step that is "
        "not its model's; together: eight adapters in one training against one after another (all three on the CPU); "
        "dpo: preferences against TRL's; sft: LoRA on rows against TRL's (default: %(default)s)",
    )
    parser.add_argument("--shape", choices=("16m", "1b"), help="size of the model (default: 16m on CPUs, 1b on a GPU)")
    parser.add_argument("--text", type=Path, metavar="FILE", help="text to train on (default: generated documents)")
    parser.add_argument(
        "--rows", type=Path, metavar="FILE", help="sft: JSON lines of prompt and completion (default: generated)"
    )
    parser.add_argument("--pairs", type=int, default=3, help="trainings by each, in turn (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=24, help="of each training (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="write a picture (PNG) here (default: beside the JSON)"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, print a Markdown table and write. Returns 0."""
    from graft.bench.training.report import draw, table, write_json
    from graft.training.errors import ConfigurationError

    if args.pairs < 1:
        raise ConfigurationError(f"--pairs {args.pairs}: must be at least 1.")
    if args.steps < 8:
        raise ConfigurationError(f"--steps {args.steps}: must be at least 8, as the first four do not count.")
    for path in (args.json, args.picture):
        if path is not None and not path.absolute().parent.is_dir():
            raise ConfigurationError(f"{path}: there is no folder {path.absolute().parent}.")
    figures = _figures(args)
    print(table(figures))
    picture = args.picture or (args.json.with_suffix(".png") if args.json else None)
    if args.json is not None:
        write_json(figures, args.json)
    if picture is not None:
        draw(figures, picture)
    return 0


def _figures(args: argparse.Namespace) -> Mapping[str, Figure]:
    from graft.bench.training.comparison import Plan, measure
    from graft.bench.training.head import head_figures
    from graft.bench.training.host import host_figures, run_16m
    from graft.training.rootstock.corpus.mixture import ROOTSTOCK
    from graft.training.rootstock.recipe import rootstock_5m
    from graft.training.runtime.device import device_kind

    if args.only == "head":
        return head_figures(num_pairs=args.pairs)
    if args.only == "dpo":
        from graft.bench.training.alignment.comparison import DpoPlan, dpo_figures

        return dpo_figures(DpoPlan(generated=ROOTSTOCK.texts, num_pairs=args.pairs, num_steps=args.steps))
    if args.only == "sft":
        from graft.bench.training.supervised.comparison import SftPlan, sft_figures

        plan = SftPlan(rows=args.rows, generated=ROOTSTOCK.texts, num_pairs=args.pairs, num_steps=args.steps)
        return sft_figures(plan)
    if args.only == "host":
        runs = {"5m": lambda folder, num_steps: rootstock_5m(num_steps=num_steps).run(folder), "16m": run_16m}
        return host_figures(runs, num_runs=args.pairs, num_steps=args.steps)
    if args.only == "together":
        from graft.adapters.base.base import find_base
        from graft.bench.training.together import random_base, together_figures

        shipped = find_base("rootstock-5m")
        with tempfile.TemporaryDirectory(prefix="graft-bench-") as folder:
            bases = {"5m": shipped, "16m": random_base(Path(folder) / "16m", tokenizer_of=shipped)}
            return together_figures(bases, num_pairs=args.pairs, num_steps=args.steps)
    shape = args.shape or ("1b" if device_kind() == "cuda" else "16m")
    return measure(
        Plan(shape=shape, text=args.text, generated=ROOTSTOCK.texts, num_pairs=args.pairs, num_steps=args.steps)
    )
