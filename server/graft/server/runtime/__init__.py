"""What every room may use: tasks, deadlines, names of requests, callers' JSON."""
