"""The code that verdicts come from, as it was when `edition.JUDGE` was last thought about.

After one, raise `edition.JUDGE` if the same evidence may get another verdict now; then `python -m tests.judge_rules`.
"""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path
from typing import Final

import diffagent

from pytest_diffbench import edition

FILE: Final = Path(__file__).with_suffix(".json")
PACKAGE: Final = Path(edition.__file__).parent
METHODS: Final = Path(diffagent.__file__).parent / "catalogue.py"
MODULES: Final = (
    "agreement.py",
    "clock.py",
    "comparison.py",
    "disturbance.py",
    "inspection.py",
    "methods.py",
    "observation.py",
    "plugin/reports.py",
    "pretence.py",
    "probes.py",
    "sequential.py",
    "stages.py",
    "static_check.py",
    *(f"judge/{name}.py" for name in ("album", "clip", "fidelity", "guards", "metric", "quality")),
)


def found() -> dict[str, object]:
    """The judge's number, and a digest of each module's statements."""
    files = {name: PACKAGE / name for name in MODULES} | {"diffagent/catalogue.py": METHODS}
    return {"judge": edition.JUDGE, "modules": {name: digest(file.read_text()) for name, file in files.items()}}


def recorded() -> dict[str, object]:
    """The same, as it was written down."""
    content: dict[str, object] = json.loads(FILE.read_text())
    return content


def digest(source: str) -> str:
    """Of what a source does: neither its comments, nor its layout, nor its docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            body[:] = [each for each in body if not _is_text(each)] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:16]


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


if __name__ == "__main__":
    FILE.write_text(json.dumps(found(), indent=1) + "\n")
