"""The benchmark: 604 tasks over five levels, written from a grid (`suites.grid`)."""
