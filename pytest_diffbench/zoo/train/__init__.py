"""How the tiny zoo was trained: `python -m pytest_diffbench.zoo.train sd15` makes its weights again."""
