"""A digest of the code that decides what a stage computes, blind to comments and docstrings."""

import ast
import hashlib
from pathlib import Path

ROOT = Path(__file__).parent
_MODELS = ("models/configuration.py", "models/multiplexers.py", "models/demultiplexers.py")
_MODELS += ("models/modeling.py", "models/heads.py", "models/build.py")
_MODELS += ("precision.py", "data/collation.py")
_TRAINING = (*_MODELS, "training/loop.py", "training/rows.py", "training/losses.py")
_TRAINING += ("training/checkpoints.py", "training/processes.py", "training/stages.py")
_TRAINING += ("evaluation/language_modeling.py",)
_SCORE = (*_MODELS, "grouping.py", "evaluation/score.py", "evaluation/metrics.py")

FILES = {
    "data": ("data/prepare.py", "data/sources.py", "data/synthetic", "tasks.py"),
    "prime": _TRAINING,
    "pretrain": _TRAINING,
    "finetune": _TRAINING,
    "score": _SCORE,
    "throughput": (*_MODELS, "evaluation/throughput.py"),
    "ensembles": (*_SCORE, "evaluation/ensembling.py"),
    "compositions": (*_SCORE, "evaluation/composition.py"),
    "muxology": (*_MODELS, "evaluation/muxology.py", "evaluation/language_modeling.py"),
    "released": (*_MODELS, "models/conversion.py"),
    "reporting": ("reporting", "experiments.py", "tasks.py"),
}


def code_digest(stage: str) -> str:
    """The same for two versions of the code that differ in comments, docstrings or layout only."""
    paths = (ROOT / name for name in FILES[stage])
    files = [f for p in paths for f in (sorted(p.glob("*.py")) if p.is_dir() else [p])]
    trees = "".join(ast.dump(_without_docstrings(ast.parse(f.read_text()))) for f in files)
    return hashlib.sha256(trees.encode()).hexdigest()[:12]


def _without_docstrings(tree):
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                node.body = body[1:]
    return tree
