"""`PromptService`: prompts kept on the server, and their runs."""
