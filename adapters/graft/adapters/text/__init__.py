"""Files of text, as people write them: one way to read lines, JSON rows and documents for every command and server."""
