"""Training as a service: whoever writes the loop sends data and gets log-probabilities and steps, one base for all."""
