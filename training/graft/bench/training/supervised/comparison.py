"""LoRA on rows by Graft beside TRL's ``SFTTrainer``: tokens a second over the same rows on the same base, each in a
process of its own, in turn.

TRL as it comes fills rows up to the longest of a batch. Its packing (``bfd``) is made for FlashAttention, which no CPU
has; there a mask over one line of 512 tokens at a time is the least that its users pay. Both are measured, in bfloat16
as it has by default and in float32, which is its faster one where the processor has no instructions for bfloat16.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from statistics import mean, median

from tqdm import tqdm

from graft.bench.training.child import told_by
from graft.bench.training.comparison import RATIO, Figure
from graft.bench.training.random_base import Cuts, write_random_base
from graft.bench.training.supervised.contender import NUM_WARM, Result, Spec
from graft.training.errors import DataError

ROWS_PER_STEP, LENGTH = 16, 512
MAX_PROMPT, MAX_ANSWER = 160, 300
"""Tokens of generated rows; lengths are drawn evenly by their logarithm, as those of what people ask for."""
BOTH = ("bfloat16", "float32")


@dataclass(frozen=True, kw_only=True)
class SftPlan:
    """What to measure."""

    rows: Path | None
    """JSON lines of ``prompt`` and ``completion``."""
    generated: Callable[[Random], Iterator[str]]
    """Documents that rows are cut out of where there is no such file."""
    num_pairs: int
    """Trainings by each, in turn."""
    num_steps: int
    """Of 16 rows; rows beyond are not read."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """How one trains."""

    who: str
    dtype: str
    packing: bool

    @property
    def name(self) -> str:
        return "_".join((self.who, "packed" if self.packing else "padded", self.dtype))


OURS = [Way(who="graft", dtype=dtype, packing=True) for dtype in BOTH]
THEIRS = [Way(who="trl", dtype=dtype, packing=packing) for dtype in BOTH for packing in (True, False)]


def sft_figures(plan: SftPlan) -> dict[str, Figure]:
    """``sft_vs_trl``: Graft as it comes by TRL's fastest way of that round. Raises ``DataError`` for too few rows."""
    rounds: list[dict[Way, Result]] = []
    with tempfile.TemporaryDirectory(prefix="graft-bench-") as name:
        folder = Path(name)
        spec = _prepared(plan, folder)
        ways = [*OURS, *THEIRS]
        with tqdm(total=len(ways) * plan.num_pairs, unit="training") as bar:
            for number in range(plan.num_pairs):
                found = {}
                for way in ways if number % 2 else reversed(ways):
                    bar.set_postfix_str(way.name)
                    found[way] = _train(replace(spec, **asdict(way)), folder)
                    bar.update()
                rounds.append(found)
    return _figures(rounds)


def _figures(rounds: list[dict[Way, Result]]) -> dict[str, Figure]:
    figures = {}
    for ending, field in (("", "tokens_per_second"), ("_by_processor", "tokens_per_processor_second")):
        speeds = [{way: getattr(result, field) for way, result in one.items()} for one in rounds]
        own = OURS[0]
        figures[f"sft_vs_trl{ending}"] = _figure([one[own] / max(one[way] for way in THEIRS) for one in speeds], RATIO)
        for way in THEIRS:
            peer = next(one for one in OURS if one.dtype == way.dtype)
            form = "packed" if way.packing else "padded"
            runs = [one[peer] / one[way] for one in speeds]
            figures[f"sft_{way.dtype}_vs_trl_{form}{ending}"] = _figure(runs, RATIO)
        for way in (*OURS, *THEIRS):
            unit = "tokens/s" if not ending else "tokens/processor s"
            figures[f"sft_{way.name}{ending}"] = _figure([one[way] for one in speeds], unit)
    for way in (*OURS, *THEIRS):
        figures[f"sft_{way.name}_loss"] = _figure([one[way].mean_loss for one in rounds], "nats")
    return figures


def _figure(runs: list[float], unit: str) -> Figure:
    return Figure(value=median(runs), unit=unit, runs=tuple(runs))


def _prepared(plan: SftPlan, folder: Path) -> Spec:
    """A Llama of the shape 16m with random weights, and the rows that fit into its positions."""
    rng, wanted = Random(0), plan.num_steps * ROWS_PER_STEP
    if plan.rows is None:
        source = plan.generated(rng)
        texts = ["\n".join(next(source) for _ in range(8)) for _ in range(600)]
        tokenizer = write_random_base(folder / "base", texts, length=LENGTH)
        cuts = Cuts.of(texts, tokenizer, rng)
        rows = [{"prompt": f"{cuts.piece(MAX_PROMPT)}\n", "completion": cuts.piece(MAX_ANSWER)} for _ in range(wanted)]
    else:
        rows = _read(plan.rows)
        tokenizer = write_random_base(
            folder / "base", [row["prompt"] + row["completion"] for row in rows], length=LENGTH
        )
    sizes = [1 + len(tokenizer(row["prompt"] + row["completion"], verbose=False)["input_ids"]) for row in rows]
    found = [number for number, size in enumerate(sizes) if size <= LENGTH][:wanted]
    if len(found) < (NUM_WARM + 2) * ROWS_PER_STEP:
        raise DataError(
            f"{plan.rows} has {len(found)} rows of at most {LENGTH} tokens, and at least "
            f"{(NUM_WARM + 2) * ROWS_PER_STEP} are needed: give more rows, or leave --rows out."
        )
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(rows[number]) + "\n" for number in found), encoding="utf-8")
    return Spec(
        **asdict(OURS[0]),
        base=str(folder / "base"),
        rows=str(path),
        rows_per_step=ROWS_PER_STEP,
        lines_per_step=max(1, round(ROWS_PER_STEP * mean(sizes[number] for number in found) / LENGTH)),
        length=LENGTH,
    )


def _read(path: Path) -> list[dict[str, str]]:
    """Raises ``DataError``."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--rows {path} cannot be read: {error}.") from None
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line) if line.strip() else None
            found += [] if row is None else [{name: str(row[name]) for name in ("prompt", "completion")}]
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{path}:{number} is no JSON object with a prompt and a completion.") from None
    return found


def _train(spec: Spec, folder: Path) -> Result:
    return Result(**told_by("graft.bench.training.supervised.contender", asdict(spec), folder))
