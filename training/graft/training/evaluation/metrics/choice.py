"""By which measure a task is judged: GLUE's choice (Wang et al. 2019, arXiv:1804.07461, table 1) and its like."""

from __future__ import annotations

from collections.abc import Mapping

ALL: Mapping[str, tuple[str, ...]] = {
    "single_label_classification": ("accuracy", "f1", "macro_f1", "matthews_correlation"),
    "multi_label_classification": ("accuracy", "micro_f1", "macro_f1"),
    "regression": ("pearson", "spearmanr", "mse"),
    "token-classification": ("accuracy", "precision", "recall", "f1", "macro_f1"),
    "question-answering": ("exact_match", "f1"),
    "multiple-choice": ("accuracy",),
    "text2text-generation": ("rouge1", "rouge2", "rougeL", "bleu", "exact_match"),
}
"""What is measured of each task, of text classification of each problem; the first is told first."""
LOWER_IS_BETTER = frozenset(("loss", "mse"))
"""Of these; of all others, higher."""
BENCHMARKS: Mapping[str, tuple[str, ...]] = {
    "cola": ("matthews_correlation",),
    "sst2": ("accuracy",),
    "mrpc": ("accuracy", "f1"),
    "stsb": ("pearson", "spearmanr"),
    "qqp": ("accuracy", "f1"),
    "mnli": ("accuracy",),
    "qnli": ("accuracy",),
    "rte": ("accuracy",),
    "wnli": ("accuracy",),
    "conll2003": ("f1",),
    "squad": ("exact_match", "f1"),
    "swag": ("accuracy",),
    "xsum": ("rouge1", "rouge2", "rougeL"),
    "wmt16": ("bleu",),
}
"""Of what is measured, what each benchmark's leaders are ordered by."""
