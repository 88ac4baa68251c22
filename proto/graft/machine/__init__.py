"""What the machine gives this process. Standard library only: every portion may import it."""
