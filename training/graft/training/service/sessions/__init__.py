"""Who trains what, and for how long it is held."""
