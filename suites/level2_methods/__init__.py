"""Level 2: one acceleration method."""
