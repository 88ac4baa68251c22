"""DPO by Graft beside TRL's: peak memory and time of the same pairs on the same base, each in a process of its own."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from statistics import median

from tqdm import tqdm

from graft.bench.training.alignment.contender import Result, Spec
from graft.bench.training.child import told_by
from graft.bench.training.comparison import RATIO, Figure
from graft.bench.training.random_base import Cuts, write_random_base

PAIRS_PER_STEP, LENGTH = 8, 512
MAX_PROMPT, MAX_ANSWER = 160, 300
"""Tokens; lengths are drawn evenly by their logarithm, as those of answers that people compare."""


@dataclass(frozen=True, kw_only=True)
class DpoPlan:
    """What to measure."""

    generated: Callable[[Random], Iterator[str]]
    """Documents that prompts and answers are cut out of."""
    num_pairs: int
    """Trainings by each, in turn."""
    num_steps: int


def dpo_figures(plan: DpoPlan) -> dict[str, Figure]:
    """With blocks computed again on the way back, as TRL's default is, and without."""
    found: dict[tuple[bool, str], list[Result]] = {}
    with tempfile.TemporaryDirectory(prefix="graft-bench-") as name:
        folder = Path(name)
        spec = _prepared(plan, folder)
        with tqdm(total=4 * plan.num_pairs, unit="training") as bar:
            for number in range(plan.num_pairs):
                for recomputes in (False, True):
                    for who in ("graft", "trl") if number % 2 else ("trl", "graft"):
                        bar.set_postfix_str(who)
                        result = _train(replace(spec, who=who, recomputes=recomputes), folder)
                        found.setdefault((recomputes, who), []).append(result)
                        bar.update()
    return _figures(found)


def _figures(found: dict[tuple[bool, str], list[Result]]) -> dict[str, Figure]:
    figures = {}
    for recomputes, ending in ((False, ""), (True, "_recomputed")):
        pairs = list(zip(found[recomputes, "graft"], found[recomputes, "trl"], strict=True))
        for figure, field in (("peak_memory", "peak_bytes"), ("own_memory", "own_bytes"), ("seconds", "seconds")):
            runs = [getattr(own, field) / getattr(other, field) for own, other in pairs]
            figures[f"dpo_{figure}{ending}_vs_trl"] = Figure(value=median(runs), unit=RATIO, runs=tuple(runs))
        for who in ("graft", "trl"):
            for figure, field in (("peak_memory", "peak_bytes"), ("own_memory", "own_bytes")):
                runs = [getattr(one, field) * 1e-6 for one in found[recomputes, who]]
                figures[f"dpo_{who}_{figure}{ending}"] = Figure(value=median(runs), unit="MB", runs=tuple(runs))
            losses = [one.first_loss for one in found[recomputes, who]]
            figures[f"dpo_{who}_first_loss{ending}"] = Figure(value=median(losses), unit="nats", runs=tuple(losses))
    return figures


def _prepared(plan: DpoPlan, folder: Path) -> Spec:
    """A Llama of the shape 16m with random weights, and pairs of generated text."""
    rng = Random(0)
    source = plan.generated(rng)
    documents = ["\n".join(next(source) for _ in range(8)) for _ in range(600)]
    base = folder / "base"
    cuts = Cuts.of(documents, write_random_base(base, documents, length=LENGTH), rng)
    rows = [
        {"prompt": f"{cuts.piece(MAX_PROMPT)}\n", "chosen": cuts.piece(MAX_ANSWER), "rejected": cuts.piece(MAX_ANSWER)}
        for _ in range(plan.num_steps * PAIRS_PER_STEP)
    ]
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    sizes = {"pairs_per_step": PAIRS_PER_STEP, "num_steps": plan.num_steps}
    return Spec(who="graft", base=str(base), rows=str(path), recomputes=False, **sizes)


def _train(spec: Spec, folder: Path) -> Result:
    return Result(**told_by("graft.bench.training.alignment.contender", asdict(spec), folder))
