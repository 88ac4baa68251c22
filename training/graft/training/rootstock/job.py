"""From a recipe of generated documents to a base in its folder."""

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from graft.adapters.form import ServingForm
from graft.training.evaluation.local import LocalAnswerer
from graft.training.job.export import put_in_place, write_base
from graft.training.job.folder import JobFolder
from graft.training.rootstock import evaluation as rootstock
from graft.training.rootstock.card import card
from graft.training.rootstock.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Pretrain:
    """One training of a base. Metrics and checkpoints, each a servable base, lie in ``work``."""

    recipe: Recipe
    work: Path
    output: Path
    num_trials: int = 200
    """Held-out questions per setting for the model card; 0 leaves the scores out."""

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
            CheckpointError: there are checkpoints of an earlier run and ``resume`` was not asked for, or another
                training works there.
        """
        own = JobFolder(path=self.work)
        with own.held():
            own.check(resume=resume)
            run = self.recipe.run(self.work)
            run.write_model = self._write
            run.execute(resume=resume)
            put_in_place(self.output, lambda folder: self._finish(run.step.model, folder))

    def _write(self, model: PreTrainedModel, folder: Path) -> None:
        write_base(model, self.recipe.tokenizer, folder, card=card(self.recipe))

    def _finish(self, model: PreTrainedModel, folder: Path) -> None:
        """The model card of what is finished has the scores of both its forms."""
        self._write(model, folder)
        tables = {}
        for form in (ServingForm.NF4, ServingForm.BF16) if self.num_trials else ():
            answerer = LocalAnswerer.load(folder, form)
            tables[form.value] = rootstock.table(rootstock.evaluate(answerer, num_trials=self.num_trials))
        (folder / "README.md").write_text(card(self.recipe, tables), encoding="utf-8")
