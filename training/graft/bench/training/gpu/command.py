"""``graft bench gpu``: what one GPU gives, part by part, each in a process of its own."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "measure one GPU: fine-tuning, the fused head, attention over packed rows, MFU of pretraining, its tests"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, after every part")
    parser.add_argument("--only", nargs="+", metavar="PART", help="these parts (default: all)")
    parser.add_argument("--minutes", type=float, default=9.0, help="for all parts together (default: %(default)s)")
    parser.add_argument(
        "--rehearse", action="store_true", help="on the CPU at toy sizes: shows that the parts run, and no figure"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, print a Markdown table and write. Returns 1 where a part failed, 2 for a mistake of the user's."""
    import torch

    from graft.bench.training.gpu.report import PARTS, Report
    from graft.training.errors import ConfigurationError

    if unknown := sorted(set(args.only or ()) - set(PARTS)):
        raise ConfigurationError(f"--only {unknown[0]}: the parts are {', '.join(PARTS)}.")
    if args.minutes <= 0:
        raise ConfigurationError(f"--minutes {args.minutes:g}: must be above 0.")
    if args.json is not None and not args.json.absolute().parent.is_dir():
        raise ConfigurationError(f"--json {args.json}: there is no folder {args.json.absolute().parent}.")
    if not args.rehearse and not torch.cuda.is_available():
        raise ConfigurationError(
            f"no CUDA device is here (torch {torch.__version__}): run this on a machine with a GPU, or add --rehearse."
        )
    names = [name for name in PARTS if not args.only or name in args.only]
    report = Report(names, seconds=60 * args.minutes, rehearse=args.rehearse, path=args.json)
    report.execute()
    return 0 if report.is_whole else 1
