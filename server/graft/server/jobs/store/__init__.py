"""The transactions over jobs, events, checkpoints and shares."""
