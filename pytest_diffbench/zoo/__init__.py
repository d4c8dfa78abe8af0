"""Model names to weights; the tiny models, the drawings they know, and how they were trained."""
