"""Settings for the suites when they are run from a checkout."""
