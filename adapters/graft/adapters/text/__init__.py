"""Text, alike for every command and server: files of it as people write them, and how a base's tokens spell it."""
