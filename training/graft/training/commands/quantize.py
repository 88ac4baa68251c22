"""``graft quantize``: writes a base in another form."""

import argparse
from pathlib import Path

from graft.training.commands.arguments.base import BASE
from graft.training.runtime.startup import prepare
from graft.training.settings.limits import count_of

HELP = "write a base in 4 or 8 bits, with its origin's identity"
_FORMS = ("nf4", "llm-int8", "int8", "int4")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("base", metavar="BASE", help=f"{BASE}; its weights must be plain")
    parser.add_argument("--form", choices=_FORMS, required=True, help="int4 is calibrated (GPTQ), the others are not")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="a file of text, as of `pretrain --text` (default for a shipped base: documents like its own)",
    )
    parser.add_argument(
        "--calibration-tokens", type=count_of("tokens"), default=32_768, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--group-size",
        type=int,
        choices=(32, 64, 128),
        help="inputs per scale of int4 (default: the largest that fits)",
    )


def run(args: argparse.Namespace) -> int:
    prepare()
    from graft.adapters.base.base import Base, find_base
    from graft.adapters.base.hub import Hub
    from graft.adapters.form import ServingForm
    from graft.training.commands.arguments.calibration_text import calibration_text
    from graft.training.compress.quantize import Quantization
    from graft.training.compress.share import outside_form, summary

    origin, form = Base.from_folder(find_base(args.base, hub=Hub())), ServingForm(args.form)
    made = Quantization(
        base=origin,
        form=form,
        output=args.output,
        text=calibration_text(args.calibration, origin, needed=form is ServingForm.INT4),
        num_tokens=args.calibration_tokens,
        group_size=args.group_size,
    ).execute()
    saved = 1 - made.size_bytes / origin.size_bytes
    print(
        f"{made.name} as {made.form} in {args.output}: {made.size_bytes / 1e6:.1f} MB, "
        f"{saved:.0%} less than {origin.size_bytes / 1e6:.1f} MB"
    )
    print(summary(outside_form(origin.path, made.path)))
    return 0
