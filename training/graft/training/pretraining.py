"""From a recipe to a base in its folder."""

from dataclasses import dataclass
from pathlib import Path

from graft.training.checkpoint import complete_checkpoints
from graft.training.errors import CheckpointError
from graft.training.export import put_in_place, write_base
from graft.training.model_card import model_card
from graft.training.recipes.catalog import pretraining
from graft.training.recipes.rootstock import Pretraining


@dataclass(frozen=True, kw_only=True)
class Pretrain:
    """One training of a base. Metrics and checkpoints, each a servable base, lie in ``work``."""

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
            f"{recipe.name}: {config.num_hidden_layers} layers of width {config.hidden_size}, "
            f"vocabulary {config.vocab_size}\n"
            f"{recipe.num_steps} steps of at most {tokens} tokens, {recipe.num_steps * tokens / 1e6:.1f}M in all, "
            f"seed {recipe.seed}\n"
            f"the last {recipe.nf4_share:.0%} with weights rounded to NF4\n"
            f"checkpoints in {self.work}, the base in {self.output}"
        )

    def execute(self, *, resume: bool) -> None:
        """Trains and writes the base.

        Raises:
            CheckpointError: there are checkpoints of an earlier run and ``resume`` was not asked for.
        """
        if not resume and complete_checkpoints(self.work):
            raise CheckpointError(
                f"{self.work} holds checkpoints of an earlier run: add --resume, or choose another --work."
            )
        run = self.recipe.run(self.work)
        run.write_model = lambda model, folder: write_base(model, self.recipe.tokenizer, folder, card=self._card())
        run.execute(resume=resume)
        put_in_place(
            self.output, lambda folder: write_base(run.model, self.recipe.tokenizer, folder, card=self._card())
        )

    def _card(self) -> str:
        return model_card(self.recipe)
