"""A digest of the code that decides what a stage computes, blind to comments and docstrings."""

import ast
import hashlib
from pathlib import Path

ROOT = Path(__file__).parent
_MODELS = tuple(
    f"models/{name}.py"
    for name in (
        *(
            "configuration",
            "multiplexers",
            "demultiplexers",
            "heads",
            "dialect",
            "modeling",
            "build",
        ),
        *("released/multiplexers", "released/demultiplexers", "released/heads", "released/dialect"),
    )
)
_MODELS += ("model_config.py", "precision.py", "data/collation.py")
_TRAINING = (*_MODELS, "training/trainer.py", "training/stages.py")
_TRAINING += ("evaluation/language_modeling.py",)
_SCORE = (*_MODELS, "grouping.py", "evaluation/score.py", "evaluation/metrics.py")
_RELEASED = ("training/fetching.py", "models/released/conversion.py", "models/released/names.py")
_RELEASED += ("models/released/their_config.py",)

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
    "released": (*_MODELS, *_RELEASED),
    "reporting": ("reporting", "experiments.py", "released_checkpoints.py", "tasks.py"),
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
