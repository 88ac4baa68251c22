"""Templates and variables become prompts."""
