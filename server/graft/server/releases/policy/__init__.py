"""What is decided about releases. Pure: no input, no output, no clock."""
