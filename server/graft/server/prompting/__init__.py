"""Prompt programs: versioned instructions with demonstrations, reasoning and an output contract, run by one call."""
