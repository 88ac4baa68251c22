"""Graft's method `reward`: a reward model from pairs of answers, as `graft align` learns it (Ouyang et al. 2022,
arXiv:2203.02155, section 3.5), which a grader of the type `reward_model` asks.
"""

from __future__ import annotations

from graft.training.preference.settings import REWARD, AlignSettings
from graft.training.worker.folder import JobFolder
from graft.training.worker.methods.adapting import LARGE, numbers_of, settings_of
from graft.training.worker.methods.dpo import learned
from graft.training.worker.tell import Tell
from graft.training.worker.trained import Trained

_LEARNING_RATE, _LEARNING_RATE_OF_LARGE = 1e-3, 9e-6
"""What a multiplier of 1 stands for; the paper's for billions of parameters (appendix C.2)."""
_CENTRED = 0.01
"""How strongly rewards are drawn to 0: what graders say means the same from one model to the next."""


def train(job: JobFolder, tell: Tell) -> Trained:
    """Raises ``TrainingError``, ``GraftError``: one line says what to change."""
    base, numbers = job.read_base(), numbers_of(job)
    rate = _LEARNING_RATE_OF_LARGE if base.num_parameters >= LARGE else _LEARNING_RATE
    wanted = settings_of(job, base, numbers, learning_rate=rate, center_rewards_coefficient=_CENTRED)
    settings = AlignSettings.from_mapping({**wanted, "loss_type": REWARD})
    return learned(job, tell, base, settings, numbers.told)
