"""What a fine-tuning can be told."""

from __future__ import annotations

from dataclasses import dataclass

from graft.training.adapt.settings import PROMPT_METHODS
from graft.training.errors import ConfigurationError
from graft.training.finetune.choices import ALL, LONG_ROWS, REFUSE, TURNS
from graft.training.finetune.following import FollowingSettings
from graft.training.finetune.positions import DEFAULT_LENGTH
from graft.training.settings.ending import check_holds_out, loads_best, patience
from graft.training.settings.limits import BELOW_1, EPOCHS, MAX_LENGTH, POSITIVE, Limit, between, one_of
from graft.training.settings.settings import setting


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(FollowingSettings):
    """Settings of one supervised training."""

    learning_rate: float = setting(2e-3, "peak; take 2e-4 for billions of parameters", POSITIVE)
    num_train_epochs: float = setting(3.0, "times that all rows are seen", EPOCHS)
    max_length: int = setting(
        DEFAULT_LENGTH,
        "tokens of a row; left as it is, no more than the base has positions",
        between(1, MAX_LENGTH),
    )
    long_rows: str = setting(
        REFUSE,
        "what becomes of longer rows: refuse, drop, keep_start, keep_end, or split (of text; others are refused); "
        "each is counted and told",
        one_of(*LONG_ROWS),
    )
    max_tokens_per_batch: int | None = setting(
        None,
        "fill each forward pass up to so many tokens, in place of --per-device-train-batch-size; packed into lines of "
        "max_length",
        between(1, MAX_LENGTH),
    )
    columns: tuple[str, ...] | None = setting(
        None, "other names of a row's keys: prompt=question,completion=answer; others are not read then"
    )
    train_on_turns: str = setting(ALL, "which answers of a conversation are learned: all, or the last", one_of(*TURNS))
    label_smoothing_factor: float = setting(
        0.0, "part of each token's label that is spread evenly over the vocabulary", BELOW_1
    )
    neftune_noise_alpha: float | None = setting(
        None, "noise on embeddings while training (NEFTune); the paper has 5 to 15", POSITIVE
    )
    validation_split: float | None = setting(
        None,
        "hold so much of the rows out, by their content and the seed, and measure on them; in place of --validation",
        Limit(holds=lambda share: 0 < share < 1, text="above 0 and below 1"),
    )
    early_stopping_patience: int | None = patience()
    load_best_model_at_end: bool = loads_best()
    packing: bool | None = setting(None, "several rows in one line of the batch; default: yes, but for prompt methods")
    assistant_only_loss: bool = setting(True, "learn answers only")

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.renamed
        if self.validation is not None and self.validation_split is not None:
            raise ConfigurationError("validation names a file and validation_split holds rows out: take one of them.")
        unheard = [name for name in ("label_smoothing_factor", "neftune_noise_alpha") if getattr(self, name)]
        if unheard and self.teacher is not None:
            raise ConfigurationError(f"setting {unheard[0]!r} is for the rows' labels, not a teacher's: leave it out.")
        check_holds_out(self, holds_out=self.holds_out, remedy="--validation FILE or --validation-split 0.05")

    @property
    def holds_out(self) -> bool:
        """Whether something is measured on."""
        return self.validation is not None or self.validation_split is not None

    @property
    def renamed(self) -> dict[str, str] | None:
        """The keys of a row that have another name. Raises ``ConfigurationError``."""
        if self.columns is None:
            return None
        pairs = [one.partition("=") for one in self.columns]
        if not all(key and mark and name for key, mark, name in pairs):
            raise ConfigurationError(
                f"setting 'columns' has the value {','.join(self.columns)!r}; it must be key=name by commas, "
                "such as prompt=question,completion=answer."
            )
        return {key: name for key, _, name in pairs}

    @property
    def packs(self) -> bool:
        """Whether rows share lines."""
        return self.method not in PROMPT_METHODS if self.packing is None else self.packing
