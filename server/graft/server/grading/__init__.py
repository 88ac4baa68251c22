"""Graders as OpenAI's fine-tuning API has them: what an answer is worth."""
