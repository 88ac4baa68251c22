"""Training files as their lines are: one JSON object each, judged by the method that learns from it. Pure."""
