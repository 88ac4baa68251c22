"""Which adapter versions sit in the engine's slots."""
