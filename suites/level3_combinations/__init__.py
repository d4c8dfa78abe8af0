"""Level 3: methods combined."""
