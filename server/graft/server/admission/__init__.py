"""Who may run now, and how the others wait."""
