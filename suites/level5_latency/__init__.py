"""Level 5: at most so much time."""
