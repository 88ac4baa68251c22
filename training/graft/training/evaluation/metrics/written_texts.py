"""Texts beside the texts that were to be written."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from graft.training.evaluation.metrics.spoken_answers import exact


def of_texts(said: Sequence[str], right: Sequence[str]) -> dict[str, float]:
    """``rouge1``, ``rouge2`` and ``rougeL``, F-measures from 0 to 1 (Lin 2004, without stemming); ``bleu``, from 0 to
    100 (Papineni et al. 2002, by sacrebleu's signature: Post 2018); ``exact_match`` as of answers in words.
    """
    import sacrebleu
    from torchmetrics.functional.text.rouge import rouge_score

    names = ("rouge1", "rouge2", "rougeL")
    found = rouge_score(list(said), list(right), rouge_keys=names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sacrebleu's advice to who gives it tokenized text
        bleu = sacrebleu.corpus_bleu(list(said), [list(right)]).score
    return {
        **{name: float(found[f"{name}_fmeasure"]) for name in names},
        "bleu": float(bleu),
        "exact_match": sum(map(exact, said, right)) / max(1, len(right)),
    }
