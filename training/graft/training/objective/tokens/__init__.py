"""Learning from tokens that somebody else has weighed: nothing is known of rows, answers or their means."""
