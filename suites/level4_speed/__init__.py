"""Level 4: at least so much faster."""
