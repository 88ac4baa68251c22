"""Prompt programs over HTTP: in OpenAI's manner, and as Langfuse's clients ask for them."""
