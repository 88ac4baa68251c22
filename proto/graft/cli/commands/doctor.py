"""`graft doctor`: can this machine serve and train?"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graft.cli.diagnosis.finding import Finding

HELP = "check this machine: Python, torch, the engine, GPUs, their driver, CPU, disk, ports"
_DATA_DIR = "~/.local/share/graft"


def configure(parser: argparse.ArgumentParser) -> None:
    """Where to look."""
    from graft.cli.connection import add_output_argument

    parser.add_argument(
        "--data-dir",
        help=f"where a server keeps its data: the catalog and every file in it are checked, too (else: {_DATA_DIR})",
    )
    parser.add_argument("--ports", type=int, nargs="*", default=[8470, 8471], help="default: 8470 8471")
    add_output_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print every finding; fail where one is a problem."""
    from dataclasses import asdict

    from graft.cli.diagnosis.diagnosis import diagnose
    from graft.cli.terminal import as_json

    given = args.data_dir is not None
    findings = diagnose(data_dir=args.data_dir or _DATA_DIR, ports=args.ports, with_data=given)
    if args.output == "json":
        print(as_json([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            print(_line(finding))
    return 1 if any(finding.state == "problem" for finding in findings) else 0


def _line(finding: Finding) -> str:
    from graft.cli.terminal import paint

    mark = {"ok": ("ok", "green"), "notice": ("note", "yellow"), "problem": ("FAIL", "red")}[finding.state]
    remedy = f"\n        {finding.remedy}" if finding.remedy else ""
    return f"{paint(mark[0].ljust(5), mark[1])} {finding.subject}: {finding.found}{remedy}"
