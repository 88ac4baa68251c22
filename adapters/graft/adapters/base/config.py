"""Which part of a base's config.json is its identity: what changes the numbers that it computes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from graft.adapters.digest import digest_of_json

# What only says how a model is trained, stored, sampled from or shown. A key that is not known to be such counts:
# better a base that is taken for another one than an adapter on a base that computes otherwise.
_NAMES = """
    _attn_implementation attn_implementation _commit_hash _name_or_path auto_map bos_token_id chunk_size_feed_forward
    decoder_start_token_id do_sample dtype early_stopping eos_token_id finetuning_task forced_bos_token_id
    forced_eos_token_id gradient_checkpointing id2label initializer_factor initializer_range label2id length_penalty
    max_length min_length no_repeat_ngram_size num_beams num_labels num_return_sequences output_attentions
    output_hidden_states output_router_logits pad_token_id prefix pretraining_tp problem_type quantization_config
    repetition_penalty return_dict router_aux_loss_coef sep_token_id task_specific_params temperature tokenizer_class
    top_k top_p torch_dtype torchscript transformers_version typical_p unk_token_id use_bfloat16 use_cache
"""
_WITHOUT_EFFECT = frozenset(_NAMES.split())
_DROPOUT = re.compile(r"(^|_)(dropout|pdrop|drop|layerdrop)(_|$)")


def digest(config: Mapping[str, object]) -> str:
    """Digest over the keys of a config.json that change what is computed; an absent key and a null are the same."""
    return digest_of_json(_computing(config))


def _computing(section: Mapping[str, object]) -> dict[str, object]:
    kept = {}
    for key, value in section.items():
        if value is None or key in _WITHOUT_EFFECT or _DROPOUT.search(key):
            continue
        if key == "max_position_embeddings" and not _depends_on_length(section):
            continue
        kept[key] = _computing(value) if isinstance(value, Mapping) else value
    return kept


def _depends_on_length(section: Mapping[str, object]) -> bool:
    """Whether the context's length enters the computing: rotary angles that are scaled (YaRN, dynamic, longrope)."""
    for key in ("rope_scaling", "rope_parameters"):
        rope = section.get(key)
        if isinstance(rope, Mapping) and any(map(_is_scaled, (rope, *rope.values()))):
            return True
    return False


def _is_scaled(rope: object) -> bool:
    """Whether so of all layers, or of a kind of them."""
    return isinstance(rope, Mapping) and rope.get("rope_type", rope.get("type", "default")) != "default"
