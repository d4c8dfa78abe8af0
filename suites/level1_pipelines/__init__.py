"""Level 1: a plain pipeline, as demanded."""
