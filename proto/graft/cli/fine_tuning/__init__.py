"""Files and jobs on the command line."""
