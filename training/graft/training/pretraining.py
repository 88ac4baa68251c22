"""From a recipe to a base in its folder."""

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from graft.training.checkpoint import complete_checkpoints
from graft.training.errors import CheckpointError
from graft.training.export import export_base
from graft.training.recipes.catalog import pretraining
from graft.training.recipes.rootstock import Pretraining


@dataclass(frozen=True, kw_only=True)
class Pretrain:
    """One training of a base. Checkpoints, metrics and a servable snapshot of each checkpoint lie in ``work``."""

    recipe: Pretraining
    work: Path
    output: Path

    @classmethod
    def from_recipe(cls, name: str, *, num_steps: int | None, seed: int, work: Path, output: Path) -> "Pretrain":
        """Raises ``ConfigurationError`` where the recipe is unknown."""
        return cls(recipe=pretraining(name, num_steps=num_steps, seed=seed), work=work, output=output)

    def plan(self) -> str:
        """What a run would do, in words."""
        recipe, tokens = self.recipe, self.recipe.num_rows * self.recipe.length
        config = recipe.config
        return (
            f"{recipe.name}: {config.num_hidden_layers} layers of width {config.hidden_size}, vocabulary {config.vocab_size}\n"
            f"{recipe.num_steps} steps of at most {tokens} tokens, {recipe.num_steps * tokens / 1e6:.1f}M in all, seed {recipe.seed}\n"
            f"the last {recipe.nf4_share:.0%} with weights rounded to NF4\n"
            f"checkpoints in {self.work}, the base in {self.output}"
        )

    def execute(self, *, resume: bool) -> None:
        """Trains and writes the base.

        Raises:
            CheckpointError: there are checkpoints of an earlier run and ``resume`` was not asked for.
        """
        if not resume and complete_checkpoints(self.work):
            raise CheckpointError(f"{self.work} holds checkpoints of an earlier run: add --resume, or choose another --work.")
        run = self.recipe.run(self.work)
        run.on_checkpoint = self._snapshot
        run.execute(resume=resume)
        self._export(run.model, self.output, f"after {self.recipe.num_steps} steps")

    def _snapshot(self, model: PreTrainedModel, checkpoint: Path, step: int) -> None:
        self._export(model, self.work / "snapshot", f"in the making, at step {step} of {self.recipe.num_steps}")

    def _export(self, model: PreTrainedModel, target: Path, state: str) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        export_base(model, self.recipe.tokenizer, target, card=f"# {self.recipe.name}\n\nA Graft base, {state}.\n")
