"""`graft bench forms`: what each form of a base costs and loses, on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "measure the forms of a base: size, memory, perplexity, tokens per second"

FORMS = ("bf16", "nf4", "llm-int8", "int8", "int4")


class InvalidPlan(ValueError):
    """What was asked for cannot be measured; says why in one line."""

    exit_code = 2


def configure(parser: argparse.ArgumentParser) -> None:
    """Which base, which forms, and where the results go."""
    parser.add_argument(
        "--base",
        default="rootstock-5m",
        help="plain base: name, folder, hub's organisation/name, or smollm2-135m for random weights of its shape",
    )
    parser.add_argument(
        "--forms", nargs="+", choices=FORMS, default=list(FORMS), metavar="FORM", help=f"default: {' '.join(FORMS)}"
    )
    parser.add_argument(
        "--text",
        type=Path,
        metavar="FILE",
        help="held-out file of text for perplexity, as of `pretrain --text` (graft corpus documents)",
    )
    parser.add_argument("--calibration", type=Path, metavar="FILE", help="text for int4, where the base has none")
    parser.add_argument("--rounds", type=int, default=5, help="windows per figure, forms in turn (default: 5)")
    parser.add_argument("--alone", action="store_true", help="one engine at a time, where memory is short: no pairing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="write a picture (PNG) here")
    parser.add_argument("--folder", type=Path, help="keep quantized bases and adapters here for the next run")


def run(args: argparse.Namespace) -> int:
    """Measure, print a Markdown table and write. Returns 0."""
    if args.rounds < 1:
        raise InvalidPlan(f"--rounds {args.rounds}: must be at least 1")
    for path in (args.json, args.picture):
        if path is not None and not path.absolute().parent.is_dir():
            raise InvalidPlan(f"{path}: there is no folder {path.absolute().parent}")

    from graft.adapters.form import ServingForm
    from graft.bench.serving.forms.forms import Plan, measure

    picture = args.picture or (args.json.with_suffix(".png") if args.json else None)
    return measure(
        Plan(
            base=args.base,
            forms=tuple(dict.fromkeys(map(ServingForm, args.forms))),
            text=args.text,
            calibration=args.calibration,
            num_rounds=args.rounds,
            alone=args.alone,
            json=args.json,
            picture=picture,
            folder=args.folder,
        )
    )
