"""``graft finetune --audit``: which tokens and which rows would be learned, without training."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from graft.training.settings.limits import count_of

if TYPE_CHECKING:
    from graft.adapters.base.base import Base
    from graft.training.finetune.settings import FinetuneSettings
    from graft.training.job.sources import Sources

REFUSED = 2
"""The exit status where no training would begin."""


def add_audit_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("audit")
    group.add_argument("--audit", action="store_true", help="train nothing, and show which tokens carry loss")
    group.add_argument("--audit-html", type=Path, metavar="FILE", help="write it as a page, too")
    group.add_argument(
        "--audit-rows", type=count_of("examples"), default=3, metavar="N", help="examples shown of each file (3)"
    )
    group.add_argument("--audit-output", choices=("text", "json"), default="text", help="how it is printed (text)")


def run_audit(args: argparse.Namespace, base: Base, sources: Sources, settings: FinetuneSettings) -> int:
    """Prints the audit; of rows that are refused the exit status tells, too."""
    from graft.training.adapt.adaptable import Adaptable
    from graft.training.finetune.audit.audit import Audit
    from graft.training.finetune.audit.page import html
    from graft.training.finetune.audit.terminal import as_json, told
    from graft.training.finetune.data import read_all
    from graft.training.finetune.ready import reader_of
    from graft.training.finetune.rows import LearnedFile
    from graft.training.model.loading import load_tokenizer
    from graft.training.runtime.disk import written

    reader = reader_of(Adaptable.of(base), settings)
    files = list(zip(read_all(sources, reader), sources.weights, strict=True))
    measured = [] if settings.validation is None else LearnedFile.read(Path(settings.validation), reader).examples()
    audit = Audit.of(
        base.name,
        files,
        load_tokenizer(base.path),
        known={tuple(one.input_ids) for one in measured},
        num_shown=args.audit_rows,
    )
    if args.audit_html is not None:
        with written(args.audit_html):
            args.audit_html.write_text(html(audit), encoding="utf-8")
    colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(as_json(audit) if args.audit_output == "json" else told(audit, colours=colours))
    return 0 if audit.is_sound else REFUSED
