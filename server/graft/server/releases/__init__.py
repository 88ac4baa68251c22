"""How a version comes to answer for its adapter: a gate, a canary, `stable`, and the way back."""
