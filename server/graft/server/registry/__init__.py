"""The catalog behind one thread, and how adapters and bases come in."""
