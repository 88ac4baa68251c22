"""Settings of a training on a task: text classification, tagging, spans, choices, text to text."""

from __future__ import annotations

from dataclasses import dataclass

from graft.training.settings.ending import check_holds_out, loads_best, patience
from graft.training.settings.limits import (
    BELOW_1,
    EPOCHS,
    MAX_LENGTH,
    NOT_NEGATIVE,
    POSITIVE,
    Limit,
    at_least,
    between,
    one_of,
)
from graft.training.settings.settings import TrainingSettings, setting
from graft.training.tasks.names import TASKS

MAX_RANK = 512
LORA, FULL = "lora", "full"


@dataclass(frozen=True, kw_only=True)
class TaskSettings(TrainingSettings):
    """Names are Hugging Face's, where it has one."""

    task: str = setting("text-classification", "what is learned: " + ", ".join(TASKS), one_of(*TASKS))
    method: str | None = setting(
        None,
        "full (every weight; default of encoders and encoder-decoders) or lora (default of decoders)",
        one_of(FULL, LORA),
    )
    learning_rate: float = setting(5e-5, "peak; lora wants more, such as 1e-3", POSITIVE)
    num_train_epochs: float = setting(3.0, "times that all rows are seen", EPOCHS)
    max_length: int = setting(512, "tokens of a row", between(4, MAX_LENGTH))
    long_rows: str = setting("error", "longer rows: error, cut, or drop", one_of("error", "cut", "drop"))
    problem_type: str | None = setting(
        None,
        "of text-classification: single_label_classification, multi_label_classification or regression; default: by "
        "the labels, which are one name or whole number, a list, or numbers with a fraction",
        one_of("single_label_classification", "multi_label_classification", "regression"),
    )
    label_names: tuple[str, ...] | None = setting(None, "classes in their order; default: those of the data")
    delimiter_tokens: bool = setting(
        False, "decoders: rows are [START] text [DELIMITER] pair [EXTRACT], with tokens of their own (GPT)"
    )
    lm_coef: float = setting(0.0, "decoders: weight of next tokens beside the class (GPT had 0.5)", NOT_NEGATIVE)
    doc_stride: int = setting(128, "question-answering: tokens that neighbouring windows share", NOT_NEGATIVE)
    max_answer_length: int = setting(30, "question-answering: tokens of the longest answer", at_least(1))
    source_prefix: str = setting("", "text2text-generation: stands before every source, such as 'summarize: '")
    max_target_length: int = setting(128, "text2text-generation: tokens of a target", between(2, MAX_LENGTH))
    num_beams: int = setting(1, "text2text-generation: beams of what is written to be measured", between(1, 64))
    r: int = setting(16, "lora: rank", Limit(holds=lambda rank: 1 <= rank <= MAX_RANK, text=f"from 1 to {MAX_RANK}"))
    lora_alpha: float = setting(32.0, "lora: scale, divided by the rank", POSITIVE)
    lora_dropout: float = setting(0.0, "lora: share of an adapter's inputs left out in training", BELOW_1)
    target_modules: tuple[str, ...] | None = setting(None, "lora: default: every linear layer of the blocks")
    use_rslora: bool = setting(False, "lora: divide lora_alpha by the rank's root")
    load_in_4bit: bool | None = setting(
        None, "lora: NF4, as a decoder is served by default; default: of decoders true, else bfloat16"
    )
    early_stopping_patience: int | None = patience()
    load_best_model_at_end: bool = loads_best()
    metric_for_best_model: str = setting(
        "loss", "what the two before this one go by: loss, or one of the task's measures, such as accuracy"
    )
    dtype: str = setting("bfloat16", "what full computes in: bfloat16 or float32", one_of("bfloat16", "float32"))

    def __post_init__(self) -> None:
        super().__post_init__()
        check_holds_out(self, holds_out=self.validation is not None, remedy="--validation FILE")
