"""What a fine-tuning can be told."""

from __future__ import annotations

from dataclasses import dataclass

from graft.training.adapt.settings import PROMPT_METHODS
from graft.training.errors import ConfigurationError
from graft.training.finetune.choices import ALL, LONG_ROWS, REFUSE, TURNS
from graft.training.finetune.following import FollowingSettings
from graft.training.finetune.positions import DEFAULT_LENGTH
from graft.training.settings.limits import EPOCHS, MAX_LENGTH, POSITIVE, between, one_of
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
    packing: bool | None = setting(None, "several rows in one line of the batch; default: yes, but for prompt methods")
    assistant_only_loss: bool = setting(True, "learn answers only")

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.renamed

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
