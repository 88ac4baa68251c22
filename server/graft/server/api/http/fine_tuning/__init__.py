"""Fine-tuning jobs over HTTP, in OpenAI's words."""
