"""What is decided about jobs. Pure: no I/O, no clock."""
