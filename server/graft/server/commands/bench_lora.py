"""`graft bench lora`: what adapters cost, on this machine, against the bare base and against others' servers."""

from __future__ import annotations

import argparse

HELP = "measure what LoRA adapters cost: against the bare base, stock vLLM and PEFT"


def configure(parser: argparse.ArgumentParser) -> None:
    """Which base, which figures, and where the results go."""
    parser.add_argument("--json", metavar="FILE", help="write the figures here")


def run(args: argparse.Namespace) -> int:
    """Measure, print and write. Returns 0, or 1 where no figure at all could be taken."""
    raise NotImplementedError("the figures follow")
