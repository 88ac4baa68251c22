"""Supervised fine-tuning, a reward model, PPO (Ouyang et al. 2022, arXiv:2203.02155, section 3): each begins where the
one before it ended, in a folder of its own.

The supervised model is a base of its own, so that the reward model and the policy are adapters of it, and the policy
switched off is the reference. Answers are sampled on a server of that base.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean, pstdev

from graft.adapters.base.base import Base
from graft.adapters.digest import sha256_of_file
from graft.adapters.form import ServingForm
from graft.training.batch.answers import Answer
from graft.training.chain.measuring import Measured, measured
from graft.training.chain.rows import HELD_OUT, PAIRS, PROMPTS, SUPERVISED, Rows
from graft.training.chain.settings import REINFORCED, REWARDING, ChainSettings
from graft.training.chain.settings import SUPERVISED as SFT
from graft.training.chain.stage import Stage
from graft.training.finetune.job import Finetune
from graft.training.model.loading import load_tokenizer
from graft.training.preference.job import Align
from graft.training.preference.judging import RewardModel
from graft.training.preference.ready import Ready
from graft.training.reinforce.asking.grading import Judge
from graft.training.reinforce.asking.questions import Questions
from graft.training.reinforce.job import Reinforce
from graft.training.reinforce.rollout import Rollout

Serve = Callable[[Base, ServingForm], AbstractContextManager[str]]
"""The gRPC of a server of a base, for as long as the block lasts."""
POLICY = "chained-policy"
_CENTRED_ON = 256
"""Answers of the rows by which rewards are brought to mean 0 and deviation 1, as in the paper's appendix C."""


@dataclass(frozen=True, kw_only=True)
class Chain:
    """``work`` gets a folder for each stage, and the report."""

    base: Base
    data: Path
    settings: ChainSettings
    work: Path
    serve: Serve
    tell: Callable[[str], None]

    def execute(self) -> Measured:
        """All stages that are not done yet; everything about rows and settings is found before the first.

        Raises:
            DataError, ConfigurationError, CheckpointError, InvalidBase: one line says what to change.
        """
        self._write_rows()
        self.tell("1 of 3: supervised fine-tuning")
        supervised = Base.from_folder(self._stage(SFT, SUPERVISED).done(self._supervised))
        self.tell("2 of 3: the reward model")
        adapter = self._stage(REWARDING, PAIRS, supervised).done(lambda resume: self._reward(supervised, resume))
        judge = self._judge(supervised, adapter)
        stage = self._stage(REINFORCED, PROMPTS, supervised, adapter)
        with self.serve(supervised, ServingForm.BF16) as server:
            self.tell("3 of 3: PPO")
            policy = stage.done(lambda resume: self._ppo(supervised, judge, server, resume))
            self.tell("what is held out, by the supervised model and the policy")
            with_policy = measured(server, self._questions, judge, self.settings, policy=policy)
        self.tell("what is held out, by the base")
        with self.serve(self.base, ServingForm.BF16) as server:
            before = measured(server, self._questions, judge, self.settings)
        return with_policy.beside(before)

    @property
    def _rows(self) -> Path:
        return self.work / "rows"

    def _write_rows(self) -> None:
        said = self.settings
        tokenizer = load_tokenizer(self.base.path)
        rows = Rows.read(self.data, tokenizer, max_tokens=said.ppo.room, held_out=said.held_out, seed=said.seed)
        rows.write(self._rows)
        self.tell(
            f"{len(rows.learned)} rows to learn from, {len(rows.held_out)} held out, {rows.num_long} with too long a "
            "prompt left out"
        )

    def _stage(self, name: str, rows: str, *before: Base | Path) -> Stage:
        """Of its settings, of its rows, and of what the stages before have made."""
        made = [one.digest if isinstance(one, Base) else _digest(one) for one in before]
        inputs = {
            "settings": {key: str(value) for key, value in asdict(getattr(self.settings, name)).items()},
            "base": self.base.digest,
            "rows": sha256_of_file(self._rows / rows),
            "before": made,
        }
        return Stage(folder=self.work / name, inputs=inputs)

    def _supervised(self, resume: bool) -> Path:
        settings = self.settings.supervised
        job = Finetune(base=self.base, data=self._rows / SUPERVISED, settings=settings, work=self.work / SFT)
        return job.execute(resume=resume)

    def _reward(self, supervised: Base, resume: bool) -> Path:
        settings = self.settings.reward
        job = Align(base=supervised, data=self._rows / PAIRS, settings=settings, work=self.work / REWARDING)
        return job.execute(resume=resume)

    def _ppo(self, supervised: Base, judge: Judge, server: str, resume: bool) -> Path:
        job = Reinforce(
            base=supervised,
            data=self._rows / PROMPTS,
            settings=self.settings.ppo,
            work=self.work / REINFORCED,
            server=server,
            policy=POLICY,
            judge=judge,
        )
        return job.execute(resume=resume)

    def _judge(self, supervised: Base, adapter: Path) -> Judge:
        """Rewards of mean 0 and deviation 1 over rows that were learned from."""
        model = RewardModel.read(supervised, self.settings.reward, adapter)
        found = model.rewards(self._learned_answers(supervised))
        scaled = replace(model, mean=fmean(found), scale=pstdev(found) or 1.0)

        def grade(answers: Sequence[tuple[int, Rollout]]) -> list[float | None]:
            return list(scaled.rewards([one.answer for _, one in answers]))

        return Judge(digest=model.digest, grade=grade)

    def _learned_answers(self, supervised: Base) -> list[Answer]:
        """The chosen ones behind their prompts."""
        settings = self.settings.reward
        ready = Ready.of(supervised, settings.form, self._rows / PAIRS, settings, settings.mesh(1), num_processes=1)
        return [answer for answer in ready.learned.answers[:_CENTRED_ON] if isinstance(answer, Answer)]

    @cached_property
    def _questions(self) -> Questions:
        tokenizer = load_tokenizer(self.base.path)
        return Questions.read(self._rows / HELD_OUT, tokenizer, max_tokens=self.settings.ppo.room)


def _digest(adapter: Path) -> str:
    return sha256_of_file(adapter / "adapter_model.safetensors")
