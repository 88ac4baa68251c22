"""What pruning made of a base, as a page: how much, how well layer by layer, and what to do with it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from graft.adapters.base.base import Base
from graft.adapters.base.pruned import FILE_NAME, PrunedLayer, PrunedRecord
from graft.training.job.called import called
from graft.training.report.page import Section, definitions, page, paragraph, table, tiles, verbatim
from graft.training.runtime.disk import put_text

_BAR = 30
"""Characters of the longest one."""


def page_of(folder: Path) -> Path:
    """Where the page lies: beside the folder, since nothing but a base's own files belongs into it."""
    return folder.with_name(f"{folder.name}.html")


def write(base: Base, origin: Base) -> Path:
    """The page on a pruned base. Raises ``NotWritten``, ``OSError``."""
    record = PrunedRecord.read(base.path)
    assert record is not None
    path = page_of(base.path)
    put_text(path, _html(record, base, origin))
    return path


def _html(record: PrunedRecord, base: Base, origin: Base) -> str:
    how = record.pattern or f"{record.sparsity:.4g}"
    folder, layers = shlex.quote(str(base.path)), record.layers
    errors = [one.error for one in layers.values() if one.error is not None]
    figures = {
        "layers": f"{len(layers):,}",
        "zeros": f"{fmean(one.zeros for one in layers.values()):.1%} (mean of the layers)",
        "weight files": f"{base.size_bytes / 1e6:,.1f} MB (zeros are stored, too)",
        **({"error of outputs": f"{fmean(errors):.2%} (mean of the layers)"} if errors else {}),
    }
    commands = (
        f"graft serve --base {folder}",
        f"graft finetune --base {folder} --no-load-in-4bit --data FILE --name recovered",
        f"graft bench pruning --base {called(origin.path)}  # perplexity, size and speed of every method",
    )
    sections = [
        Section(title="In short", body=tiles(figures)),
        Section(title="What to do with it", body=verbatim("\n".join(commands))),
        Section(title="Layer by layer", body=_layers(layers)),
        Section(title="Where it comes from", body=definitions(_origin(record, base))),
    ]
    lead = f"{origin.name} by {record.method}, {how}: a base of its own, whose adapters are trained anew."
    return page(f"{base.path.name}: {origin.name}, pruned", lead, sections)


def _layers(layers: Mapping[str, PrunedLayer]) -> str:
    highest = max((one.error for one in layers.values() if one.error is not None), default=0.0) or 1.0
    if all(one.error is None for one in layers.values()):
        said = paragraph("No outputs were compared: the method looks at the weights alone.", kind="quiet")
        return said + table(("layer", "zeros"), [(path, f"{one.zeros:.1%}") for path, one in layers.items()])
    said = paragraph("‖WX − W′X‖² as a share of ‖WX‖², X being the calibration text's inputs.", kind="quiet")
    rows = [(path, f"{one.zeros:.1%}", f"{one.error or 0:.3%}", _bar(one, highest)) for path, one in layers.items()]
    return said + table(("layer", "zeros", "error of its outputs", ""), rows)


def _bar(layer: PrunedLayer, highest: float) -> str:
    return "█" * -(-round(1000 * (layer.error or 0.0) / highest) * _BAR // 1000)


def _origin(record: PrunedRecord, base: Base) -> dict[str, object]:
    text = record.calibration
    return {
        "base": f"{record.base.name} ({record.base.digest})",
        "its own digest": base.digest,
        "method": record.method,
        "calibration text": "none" if text is None else f"{text.num_tokens:,} tokens of {text.data_digest}",
        **{f"version of {name}": said for name, said in record.tools.items()},
        "record": FILE_NAME,
    }
