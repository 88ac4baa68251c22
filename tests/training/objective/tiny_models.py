"""A tiny model of every architecture that ``AutoModelForCausalLM`` knows: its configuration's defaults, with sizes
made small by their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

MODEL_TYPES = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
WINDOW, CHUNK, VOCABULARY = 6, 8, 99

_BY_SIZE: dict[Any, str] = {
    VOCABULARY: """vocab_size vocab_size_per_layer_input decoder_vocab_size audio_vocab_size codebook_size
        pronunciation_vocab_size shape_vocab_size encoder_hash_byte_group_vocab""",
    128: """max_position_embeddings n_positions n_ctx max_seq_len context_length model_max_length max_target_positions
        max_source_positions original_max_position_embeddings num_position_embeddings""",
    48: """intermediate_size ffn_dim decoder_ffn_dim encoder_ffn_dim ffn_hidden_size feed_forward_size dff dim_ff
        d_inner mlp_dim moe_intermediate_size shared_expert_intermediate_size shared_intermediate_size
        intermediate_size_mlp
        dense_intermediate_size expert_ffn_hidden_size moe_shared_expert_intermediate_size""",
    32: """hidden_size d_model n_embd emb_dim embedding_dim embedding_size embed_dim input_embedding_size lru_width
        output_embedding_size word_embed_proj_dim attention_hidden_size hidden_size_global output_channels input_size
        out_hidden_size ple_embed_dim codebook_dim vector_quantization_hidden_dimension pronunciation_embed_dim
        shape_embed_dim projector_input_dim projector_output_dim router_hidden_size""",
    16: """kv_lora_rank q_lora_rank o_lora_rank gated_norm_rank laurel_rank adapter_rank hc_lowrank
        hidden_size_per_layer_input""",
    12: "qk_head_dim",
    CHUNK: """attention_chunk_size mamba_d_state state_size ssm_state_size mamba_chunk_size chunk_size block_size
        rel_extent local_attn_chunk_length lsh_attn_chunk_length time_step_rank mamba_dt_rank index_block_size head_dim
        dim_head kv_channels d_head attention_head_size swa_head_dim global_head_dim qk_nope_head_dim v_head_dim
        linear_key_head_dim linear_value_head_dim linear_head_dim attention_head_dim index_head_dim d_rel""",
    WINDOW: "sliding_window window_size attention_window_size sliding_window_size local_attention keep_window_size",
    4: """num_hidden_layers n_layer n_layers num_layers decoder_layers num_decoder_layers num_blocks depth
        num_layers_per_stack num_attention_heads n_head n_heads num_heads decoder_attention_heads
        encoder_attention_heads num_decoder_attention_heads num_encoder_attention_heads attention_heads
        swa_num_attention_heads qk_rope_head_dim rotary_dim num_experts num_local_experts n_routed_experts
        moe_num_experts index_topk""",
    2: """num_key_value_heads kv_n_heads num_kv_heads swa_num_key_value_heads num_query_groups num_experts_per_tok
        num_experts_per_token moe_topk moe_k moe_top_k index_n_heads o_groups topk_group n_group zero_expert_num
        linear_num_key_heads linear_num_value_heads linear_num_heads mamba_n_heads n_mamba_heads mamba_num_heads
        index_topk_blocks max_window_layers num_kv_shared_layers eos_token_id sep_token_id cls_token_id eod_token_id""",
    1: """first_k_dense_replace num_dense_layers num_nextn_predict_layers n_shared_experts num_shared_experts
        encoder_layers num_encoder_layers num_global_layers bos_token_id""",
    0: "pad_token_id",
}
_SIZES = {name: size for size, names in _BY_SIZE.items() for name in names.split()}
_SIZES |= {"use_sliding_window": True, "attention_dropout": 0.0, "attn_pdrop": 0.0}
_SAID: dict[str, Any] = {"sliding_window": int | None, "attention_dropout": float, "attn_pdrop": float}
"""A default of None is left, but for what it leaves out."""
_KINDS = ("layer_types", "layers_block_type", "mlp_layer_types", "indexer_types")
"""Lists with a kind for each layer: every kind that occurs is kept."""

_MIXED = ["sliding_attention", "full_attention"] * 2
_ROPES = {"rope_parameters": {kind: {"rope_type": "default", "rope_theta": 10000.0} for kind in _MIXED}}
_SECTIONS = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
_SPARSE_INDEX = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 8,
    "indexer_budget": 8,
    "indexer_compress_ratio": 2,
    "partial_rotary_factor": 0.5,
}
_ODD: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1, 3], "mamba_d_head": 32},
    "cohere_compass_text": {"layer_types": _MIXED, "rope_parameters": dict.fromkeys(_MIXED, _SECTIONS)},
    "dbrx": {"attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0}},
    "deepseek_v2": {"n_group": 2, "topk_group": 2, "num_experts_per_tok": 2, "topk_method": "greedy"},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "layer_types": _MIXED},
    "falcon_h1": {"mamba_d_ssm": 32, "mamba_d_head": 16},
    "gemma2": {"attn_logit_softcapping": 1.0},
    "gemma3n_text": {"intermediate_size": 48, "layer_types": _MIXED, "activation_sparsity_pattern": [0.5, 0.0] * 2},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "attention_layers": ["global", "local"] * 2},
    "granitemoehybrid": {
        "layer_types": ["linear_attention", "full_attention"] * 2,
        "mamba_d_head": 32,
        "mamba_n_heads": 2,
    },
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "kimi_linear": {"num_expert_group": 1, "topk_group": 1},
    "laguna": {"layer_types": _MIXED, "num_attention_heads_per_layer": [4] * 4, **_ROPES},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2, "block_multiple_of": 16},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"num_heads": 8, "n_groups": 2},
    "mellum": {"layer_types": _MIXED, **_ROPES},
    "minimax_m3_vl_text": {"layer_types": ["full_attention", "minimax_m3_sparse"] * 2},
    "ministral": {"head_dim": 8},
    "nemotron": {"num_key_value_heads": 2},
    "nemotron_h": {"n_groups": 1, "mamba_head_dim": 32},
    "qwen2": {"layer_types": _MIXED},
    "qwen2_moe": {"layer_types": _MIXED},
    "qwen3": {"layer_types": _MIXED},
    "qwen4_exp": {"text_config": _SPARSE_INDEX},
    "qwen4_exp_text": _SPARSE_INDEX,
    "reformer": {"is_decoder": True, "axial_pos_embds": False, "num_buckets": 2, "attn_layers": ["local"] * 4},
    "smollm3": {"layer_types": _MIXED},
    "vaultgemma": {"attn_logit_softcapping": 1.0},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"attention_head_dim": 16, "attention_hidden_size": 64},
    "zamba2": {"attention_head_dim": 16, "attention_hidden_size": 64, "mamba_headdim": 32},
    "zaya": {"num_experts_per_tok": 1},
}


def tiny(model_type: str, **options: Any) -> PreTrainedModel:
    """In float32 and evaluation, with weights so large that what attention does is seen in the loss."""
    torch.manual_seed(0)
    chosen = _merged(_sizes(CONFIG_MAPPING[model_type]()), _ODD.get(model_type, {}) | options)
    config = AutoConfig.for_model(model_type, **chosen)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "conv" not in name:
                parameter.normal_(0, parameter.shape[-1] ** -0.5)
            else:
                parameter.add_(torch.randn(parameter.shape), alpha=0.1)
    return model.eval()


def _sizes(config: PretrainedConfig) -> dict[str, Any]:
    """What to say in place of a configuration's defaults."""
    found: dict[str, Any] = {}
    for name, value in vars(config).items():
        if isinstance(value, PretrainedConfig):
            found[name] = _sizes(value)
        elif name in _KINDS and value:
            kinds = list(dict.fromkeys(value))
            found[name] = [kinds[layer % len(kinds)] for layer in range(max(4, len(kinds)))]
        elif name in _SIZES and isinstance(value, _SAID.get(name, int | str)):
            found[name] = _SIZES[name]
    if "num_hidden_layers" in found:
        found["num_hidden_layers"] = max([4, *(len(found[name]) for name in _KINDS if name in found)])
    if "qk_rope_head_dim" in found and config.model_type != "deepseek_v4":  # latent attention: heads share nothing
        found |= {"num_key_value_heads": 4} | ({"head_dim": 4} if "head_dim" in found else {})
    return found


def _merged(sizes: dict[str, Any], odd: Mapping[str, Any]) -> dict[str, Any]:
    nested = {name: {**sizes[name], **value} for name, value in odd.items() if isinstance(sizes.get(name), dict)}
    return {**sizes, **odd, **nested}
