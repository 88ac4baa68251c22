"""HTTP: OpenAI's routes, probes and metrics."""
