"""Ranks that an engine has room for: a server holds its slots for one of them (vLLM's ``max_lora_rank``)."""

DEFAULT = 64
"""A server's without ``--max-rank``."""
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


def engine_rank(rank: int) -> int:
    """The smallest ``--max-rank`` of a server that takes an adapter of this rank, which is 512 at most."""
    return next(one for one in _RANKS if one >= rank)
