"""How alike two texts are, by the measures that OpenAI's text_similarity names."""
