"""The benchmark: 604 tasks are the goal; `sd15` has the first of them."""
