"""What a pretraining on text can be told."""

from __future__ import annotations

from dataclasses import dataclass

from graft.training.settings.limits import (
    BELOW_1,
    MAX_LENGTH,
    MAX_WIDTH,
    NOT_NEGATIVE,
    SHARE,
    Limit,
    at_least,
    between,
    one_of,
)
from graft.training.settings.settings import TrainingSettings, setting


@dataclass(frozen=True, kw_only=True)
class PretrainSettings(TrainingSettings):
    """Settings of one pretraining: the data, the model, the recipe and the mesh."""

    text: tuple[str, ...] = setting(
        (),
        "files of text (.txt, .md, code; .jsonl, .ndjson or .json rows with `text`; also .gz), or folders of `graft "
        "corpus tokenize`, separated by commas",
    )
    tokenizer: str | None = setting(
        None, "folder of a tokenizer, or a model hub's organisation/name; default: one is trained on the text"
    )
    vocab_size: int = setting(4096, "of the tokenizer that is trained", at_least(1))

    family: str | None = setting(None, "architecture: llama (default), gpt2, bert, t5, …")
    objective: str | None = setting(None, "what is learned; default: the family's first")
    model: str | None = setting(
        None, "folder of a model to go on from, or a model hub's organisation/name, in place of a new one"
    )
    teacher: str | None = setting(None, "folder of a model to be distilled, or a model hub's organisation/name")
    hidden_size: int = setting(256, "width", between(1, MAX_WIDTH))
    num_hidden_layers: int = setting(4, "layers", at_least(1))
    num_attention_heads: int = setting(4, "heads", at_least(1))
    num_key_value_heads: int | None = setting(None, "default: as many as heads", at_least(1))
    intermediate_size: int | None = setting(
        None, "width of the feed-forward; default: four times hidden_size", at_least(1)
    )
    num_local_experts: int = setting(8, "of a mixture of experts", at_least(2))
    sliding_window: int | None = setting(None, "tokens that Mistral's attention reaches back", at_least(1))
    dropout: float | None = setting(
        None, "of embeddings and blocks, none of attention; default: the family's own", BELOW_1
    )
    max_length: int = setting(256, "tokens per row", between(8, MAX_LENGTH))
    whole_word_masking: bool = setting(False, "mask all tokens of a word or none")

    lr_min_ratio: float = setting(0.1, "part of the peak that remains at the end", SHARE)
    weight_decay: float = setting(0.1, "of matrices; norms and biases have none", NOT_NEGATIVE)
    optim: str = setting("adamw", "adamw, adamw_8bit or muon", one_of("adamw", "adamw_8bit", "muon"))
    adam_beta1: float = setting(0.9, "of AdamW", BELOW_1)
    adam_beta2: float = setting(0.95, "of AdamW", BELOW_1)
    batch_warmup_steps: int = setting(0, "steps in which gradient accumulation rises from 1 to its value", NOT_NEGATIVE)
    z_loss: float = setting(0.0, "factor of log² Z in a decoder's loss; PaLM has 1e-4", NOT_NEGATIVE)
    ema_decay: float | None = setting(
        None,
        "export the running mean of the weights with this decay, such as 0.999; --eval-steps measures the weights",
        Limit(holds=lambda decay: 0 < decay < 1, text="between 0 and 1"),
    )
    dtype: str | None = setting(
        None,
        "what is computed in, bfloat16 (default) or float32; the optimizer's weights are float32 in any case",
        one_of("bfloat16", "float32"),
    )
    cpu_offload: bool = setting(False, "keep the shards of weights and optimizer in the host's memory, not the GPU's")
    sync_each_batch: bool = setting(
        False,
        "with sharded weights, sum gradients behind every micro-batch: more exchanges, and no process holds them whole",
    )
    float8: bool = setting(False, "multiply the blocks' matrices in 8 bits; needs torchao and a GPU that can")
