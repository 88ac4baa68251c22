"""``graft bench pruning``: what a base loses by zeros among its weights, by how they are chosen, and what it gains."""

from __future__ import annotations

import argparse
from pathlib import Path

from graft.training.commands.arguments.base import BASE
from graft.training.runtime.startup import prepare
from graft.training.settings.limits import count_of

HELP = "prune a base by every method: perplexity, size, speed, and what an adapter wins back"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", default="rootstock-5m", help=f"{BASE} (default: %(default)s)")
    parser.add_argument("--data", type=Path, metavar="FILE", help="calibration text, as of `graft prune`")
    parser.add_argument(
        "--held-out",
        type=Path,
        metavar="FILE",
        help="text to measure on (default for a shipped base: documents of its own kinds)",
    )
    parser.add_argument(
        "--tokens", type=count_of("tokens"), default=32_768, metavar="N", help="of each text (default: %(default)s)"
    )
    parser.add_argument("--sparsity", type=float, default=0.5, help="(default: %(default)s)")
    parser.add_argument("--pattern", default="2:4", metavar="N:M", help="(default: %(default)s)")
    parser.add_argument(
        "--recover",
        type=count_of("steps"),
        metavar="STEPS",
        help="train a LoRA adapter for so many on each, on the calibration text",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")


def run(args: argparse.Namespace) -> int:
    """Measure, print a Markdown table and write. Returns 0."""
    prepare()
    from graft.adapters.base.base import Base, find_base
    from graft.adapters.base.hub import Hub
    from graft.bench.training.pruning.comparison import Comparison
    from graft.bench.training.pruning.table import table, write_json
    from graft.training.commands.arguments.calibration_text import calibration_text, held_out_text
    from graft.training.compress.prune.sparsity import Sparsity
    from graft.training.errors import ConfigurationError

    base = Base.from_folder(find_base(args.base, hub=Hub()))
    text, held_out = calibration_text(args.data, base, needed=True), held_out_text(args.held_out, base)
    missing = [flag for flag, found in (("--data", text), ("--held-out", held_out)) if found is None]
    if args.json is not None and not args.json.absolute().parent.is_dir():
        raise ConfigurationError(f"--json {args.json}: there is no folder {args.json.absolute().parent}.")
    if text is None or held_out is None:
        raise ConfigurationError(
            f"{base.name} is no shipped base: add {' and '.join(missing)} with text that it knows."
        )
    figures = Comparison(
        base=base,
        text=text,
        held_out=held_out,
        num_tokens=args.tokens,
        sparsities=(Sparsity.anywhere(args.sparsity), Sparsity.pattern(args.pattern)),
        recover_steps=args.recover,
    ).measure()
    print(table(figures))
    if args.json is not None:
        write_json(figures, args.json)
    return 0
