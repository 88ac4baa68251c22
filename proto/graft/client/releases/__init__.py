"""How versions come to answer for their adapters."""
