"""What PEFT saves, read without torch."""
