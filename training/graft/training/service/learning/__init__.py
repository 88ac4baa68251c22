"""What a training is on the trainer's own machine: an adapter of the one base, learned from in turns."""
