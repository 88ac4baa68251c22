"""The jobs of a chain as what is asked of the server: each begins where the one before it ended (Ouyang et al. 2022,
arXiv:2203.02155, section 3). Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any, Final

from graft.adapters.digest import digest_of_json
from graft.client.fine_tuning.job_operation import JobOptions
from graft.training.chain.rows import Preferred, Row, Rows, as_file
from graft.training.chain.settings import PPO, REWARD, SUPERVISED, ChainSettings

_PART: Final = "reward"
"""The reward model's name in the formula of the policy's grader."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One job, without what the jobs before it are to say: the model that it goes on from, and a policy's grader."""

    name: str
    method: str
    adapter: str
    training: bytes
    validation: bytes
    options: JobOptions

    @property
    def metadata(self) -> Mapping[str, str]:
        """By which the job is found again."""
        return self.options["metadata"]


def stages_of(name: str, rows: Rows, settings: ChainSettings, *, base: str) -> list[Stage]:
    """In their order; ``base`` is the base's digest. A stage's metadata say all that decides what comes out of it, so
    that the same is not done twice.
    """
    found: list[Stage] = []
    inputs: list[dict[str, Any]] = [{"base": base, "seed": settings.seed}]
    for stage, method, adapter, form in _stages(name):
        training, validation = as_file(rows.learned, form), as_file(rows.held_out, form)
        hyperparameters = dict(getattr(settings, stage))
        digests = [hashlib.sha256(one).hexdigest() for one in (training, validation)]
        inputs.append({"adapter": adapter, "rows": digests, "hyperparameters": hyperparameters})
        digest = digest_of_json({"inputs": inputs})
        options = JobOptions(
            method=method,
            adapter=adapter,
            hyperparameters=hyperparameters,
            seed=settings.seed,
            metadata={"graft-chain": name, "graft-stage": stage, "graft-inputs": digest},
        )
        made = Stage(
            name=stage, method=method, adapter=adapter, training=training, validation=validation, options=options
        )
        found.append(made)
    return found


def grader_of(model: str, rewards: Sequence[float] = ()) -> dict[str, Any]:
    """What the reward model says; brought to mean 0 and deviation 1 over those rewards, where there are some, as in the
    paper's appendix C.
    """
    own = {"type": "reward_model", "name": _PART, "model": model}
    if not rewards:
        return own
    formula = f"({_PART} - ({fmean(rewards)!r})) / {pstdev(rewards) or 1.0!r}"
    return {"type": "multi", "name": "worth", "graders": {_PART: own}, "calculate_output": formula}


def _stages(name: str) -> Sequence[tuple[str, str, str, Callable[[Preferred], Row]]]:
    """Each with its method, the adapter that it makes, and its rows."""
    return [
        (SUPERVISED, "supervised", f"{name}-{SUPERVISED}", lambda row: row.answered),
        (REWARD, "reward", f"{name}-{REWARD}", lambda row: row.pair),
        (PPO, "reinforcement", name, lambda row: row.question),
    ]
