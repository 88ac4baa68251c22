"""LLM.int8() (Dettmers et al. 2022, arXiv:2208.07339): 8-bit multiplication with outlying inputs in 16 bits."""

from transformers import BitsAndBytesConfig

THRESHOLD = 6.0
"""Inputs of a larger magnitude stay in 16 bits (section 3.2)."""


def llm_int8_config() -> BitsAndBytesConfig:
    return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=THRESHOLD)
