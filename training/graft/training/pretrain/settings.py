"""What a pretraining on text can be told."""

from __future__ import annotations

from dataclasses import dataclass

from graft.training.settings.settings import TrainingSettings, one_of, require, setting


@dataclass(frozen=True, kw_only=True)
class PretrainSettings(TrainingSettings):
    """Settings of one pretraining: the data, the model, the recipe and the mesh."""

    text: tuple[str, ...] = setting(
        (), "files of text (.txt, .md, code; .jsonl, .ndjson or .json rows with `text`; also .gz), separated by commas"
    )
    validation: str | None = setting(None, "a file of text that is held out")
    tokenizer: str | None = setting(None, "folder of a tokenizer; default: one is trained on the text")
    vocab_size: int = setting(4096, "of the tokenizer that is trained")

    family: str | None = setting(None, "architecture: llama (default), gpt2, bert, t5, …")
    objective: str | None = setting(None, "what is learned; default: the family's first")
    model: str | None = setting(None, "folder of a model to go on from, in place of a new one")
    teacher: str | None = setting(None, "folder of a model to be distilled")
    hidden_size: int = setting(256, "width")
    num_hidden_layers: int = setting(4, "layers")
    num_attention_heads: int = setting(4, "heads")
    num_key_value_heads: int | None = setting(None, "default: as many as heads")
    intermediate_size: int | None = setting(None, "width of the feed-forward; default: four times hidden_size")
    num_local_experts: int = setting(8, "of a mixture of experts")
    sliding_window: int | None = setting(None, "tokens that Mistral's attention reaches back")
    dropout: float | None = setting(None, "of embeddings and blocks, none of attention; default: the family's own")
    max_length: int = setting(256, "tokens per row")
    whole_word_masking: bool = setting(False, "mask all tokens of a word or none")

    learning_rate: float = setting(1e-3, "peak of the schedule")
    lr_min_ratio: float = setting(0.1, "part of the peak that remains at the end")
    weight_decay: float = setting(0.1, "of matrices; norms and biases have none")
    optim: str = setting("adamw", "adamw, adamw_8bit or muon")
    adam_beta1: float = setting(0.9, "of AdamW")
    adam_beta2: float = setting(0.95, "of AdamW")
    batch_warmup_steps: int = setting(0, "steps in which gradient accumulation rises from 1 to its value")
    z_loss: float = setting(0.0, "factor of log² Z in a decoder's loss; PaLM has 1e-4")
    ema_decay: float | None = setting(
        None, "export the running mean of the weights with this decay, such as 0.999; --eval-steps measures the weights"
    )
    dtype: str | None = setting(
        None, "what is computed in, bfloat16 (default) or float32; the optimizer's weights are float32 in any case"
    )
    gradient_checkpointing: bool = setting(False, "compute activations twice instead of keeping them")
    torch_compile: bool = setting(False, "compile the blocks")
    tensorboard: bool = setting(False, "write scalars for TensorBoard beside the checkpoints")
    metrics_port: int | None = setting(None, "serve Prometheus metrics on this port of 127.0.0.1")
    eval_steps: int | None = setting(None, "measure on the validation text every so many steps; default: at the end")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "eval_steps"):
            value = getattr(self, name)
            if value is not None:
                require(value >= 1, name, value, "at least 1")
        if self.dropout is not None:
            require(0 <= self.dropout < 1, "dropout", self.dropout, "from 0 to below 1")
        if self.ema_decay is not None:
            require(0 < self.ema_decay < 1, "ema_decay", self.ema_decay, "between 0 and 1")
        for name in ("adam_beta1", "adam_beta2"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "from 0 to below 1")
        for name in ("batch_warmup_steps", "z_loss"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        one_of("optim", self.optim, ("adamw", "adamw_8bit", "muon"))
        one_of("dtype", self.dtype, (None, "bfloat16", "float32"))
        require(self.max_length >= 8, "max_length", self.max_length, "at least 8")
        for name, least in (("num_key_value_heads", 1), ("intermediate_size", 1), ("sliding_window", 1)):
            value = getattr(self, name)
            if value is not None:
                require(value >= least, name, value, f"at least {least}")
        require(self.num_local_experts >= 2, "num_local_experts", self.num_local_experts, "at least 2")
        if self.metrics_port is not None:
            require(0 < self.metrics_port < 65536, "metrics_port", self.metrics_port, "from 1 to 65535")
