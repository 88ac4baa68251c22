"""``graft bench training``: Graft's loop against Hugging Face's Trainer, in turn, each in a process of its own."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import median

from tqdm import tqdm

from graft.bench.training.child import told_by
from graft.bench.training.contender import Result, Spec
from graft.bench.training.shape import SHAPES, Shape
from graft.training.corpus.byte_pairs import train_tokenizer
from graft.training.corpus.texts import read_documents
from graft.training.errors import DataError

RATIO = "ratio"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of a benchmark: the median of its runs."""

    value: float
    unit: str
    runs: tuple[float, ...]


TARGETS = {
    "pretrain_vs_hf_trainer": 1.2,
    "pretrain_mixed_length_vs_hf_trainer": 1.6,
    "pretrain_peak_memory_vs_hf_trainer": 0.8,
    **dict.fromkeys(("head_4k_vs_torch", "head_32k_vs_torch", "head_128k_vs_torch"), 1.0),
    "dpo_peak_memory_vs_trl": 0.7,
    **dict.fromkeys(("sft_vs_trl", "sft_vs_trl_by_processor"), 1.3),
    **dict.fromkeys(("host_share_5m", "host_share_16m"), 0.03),
    "together_vs_apart_8": 3.0,
    **{f"together_vs_apart_8_{base}_4_{rows}": 3.0 for base in ("5m", "16m") for rows in ("labels", "short")},
}
"""What Graft promises; memory and shares of time are to be below, speed above."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure."""

    shape: str
    text: Path | None
    generated: Callable[[Random], Iterator[str]]
    """Documents in place of a text."""
    num_pairs: int
    num_steps: int


def measure(plan: Plan) -> dict[str, Figure]:
    """Trains in pairs, the order changing from pair to pair. Raises ``DataError`` for too little text."""
    shape = SHAPES[plan.shape]
    with tempfile.TemporaryDirectory(prefix="graft-bench-") as name:
        folder = Path(name)
        kinds = _prepare(plan, shape, folder)
        pairs: dict[str, list[dict[str, Result]]] = {kind: [] for kind in kinds}
        with tqdm(total=2 * len(kinds) * plan.num_pairs, unit="training") as bar:
            for number in range(plan.num_pairs):
                for kind, rows in kinds.items():
                    pair = {}
                    for who in ("graft", "trainer") if number % 2 else ("trainer", "graft"):
                        bar.set_postfix_str(f"{kind}, {who}")
                        files = {"config": str(folder), "rows": str(rows)}
                        spec = Spec(who=who, **files, rows_per_step=shape.rows, num_steps=plan.num_steps)
                        pair[who] = _train(spec, folder)
                        bar.update()
                    pairs[kind].append(pair)
    return _figures(pairs["packed"], pairs["mixed"])


def _figures(packed: Sequence[dict[str, Result]], mixed: Sequence[dict[str, Result]]) -> dict[str, Figure]:
    def ratio(pairs: Sequence[dict[str, Result]], field: str) -> Figure:
        runs = [getattr(pair["graft"], field) / getattr(pair["trainer"], field) for pair in pairs]
        return Figure(value=median(runs), unit=RATIO, runs=tuple(runs))

    def own(pairs: Sequence[dict[str, Result]], who: str, field: str, unit: str, scale: float = 1.0) -> Figure:
        runs = [getattr(pair[who], field) * scale for pair in pairs]
        return Figure(value=median(runs), unit=unit, runs=tuple(runs))

    figures = {
        "pretrain_vs_hf_trainer": ratio(packed, "tokens_per_second"),
        "pretrain_mixed_length_vs_hf_trainer": ratio(mixed, "tokens_per_second"),
        "pretrain_peak_memory_vs_hf_trainer": ratio(packed, "peak_bytes"),
        "pretrain_mixed_length_peak_memory_vs_hf_trainer": ratio(mixed, "peak_bytes"),
        "pretrain_loss_vs_hf_trainer": ratio(packed, "last_loss"),
        "pretrain_mixed_length_loss_vs_hf_trainer": ratio(mixed, "last_loss"),
    }
    for who in ("graft", "trainer"):
        figures[f"pretrain_{who}"] = own(packed, who, "tokens_per_second", "tokens/s")
        figures[f"pretrain_mixed_length_{who}"] = own(mixed, who, "tokens_per_second", "tokens/s")
        figures[f"pretrain_{who}_peak_memory"] = own(packed, who, "peak_bytes", "MB", 1e-6)
    if all(pair["graft"].mfu is not None for pair in packed):
        figures["mfu"] = own(packed, "graft", "mfu", RATIO)
        figures["mfu_trainer"] = own(packed, "trainer", "mfu", RATIO)
    return figures


def _prepare(plan: Plan, shape: Shape, folder: Path) -> dict[str, Path]:
    """Configuration and rows on disk: full rows, and documents of their own length."""
    documents = _documents(plan)
    tokenizer = train_tokenizer(documents, vocab_size=shape.vocab_size, context_tokens=shape.length)
    end: int = tokenizer.eos_token_id
    encoded: list[list[int]] = tokenizer(documents, add_special_tokens=False, verbose=False)["input_ids"]
    shape.config(pad_token_id=tokenizer.pad_token_id).save_pretrained(folder)
    num = plan.num_steps * shape.rows
    stream = [one for ids in encoded for one in [*ids, end]]
    full = [stream[at : at + shape.length] for at in range(0, len(stream) - shape.length, shape.length)]
    whole = [[*ids[: shape.length - 1], end] for ids in encoded if len(ids) > 1]
    for rows, what in ((full, "full rows"), (whole, "documents")):
        if len(rows) < num:
            raise DataError(
                f"the text makes {len(rows)} {what}, and {plan.num_steps} steps of {shape.rows} rows take {num}: "
                "give more text, or take fewer --steps."
            )
    paths = {"packed": folder / "packed.jsonl", "mixed": folder / "mixed.jsonl"}
    for path, rows in zip(paths.values(), (full, whole), strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows[:num]))
    return paths


def _documents(plan: Plan) -> list[str]:
    """Paragraphs of the text, or of generated documents one to eight together."""
    rng = Random(0)
    if plan.text is not None:
        lines = [line.strip() for document in read_documents(plan.text) for line in document.split("\n")]
        return [line for line in lines if line]
    source = plan.generated(rng)
    shape = SHAPES[plan.shape]
    wanted = 3 * plan.num_steps * shape.rows * max(1, shape.length // 256)
    return ["\n".join(next(source) for _ in range(rng.randint(1, 8))) for _ in range(wanted)]


def _train(spec: Spec, folder: Path) -> Result:
    return Result(**told_by("graft.bench.training.contender", asdict(spec), folder))
