"""The tasks, by Hugging Face's names."""

TEXT, TOKENS, QUESTIONS = "text-classification", "token-classification", "question-answering"
CHOICES, WRITING = "multiple-choice", "text2text-generation"
TASKS = (TEXT, TOKENS, QUESTIONS, CHOICES, WRITING)
