"""The workflow's stages, in the order in which a result goes through them: one table for everybody.

A stage is a kind of job. Its name is a key of `resources` in the config, a folder of logs and
benchmarks, and a row of the plan.
"""

from dataclasses import dataclass

TRAININGS = ("prime", "pretrain", "finetune", "prune")

# Paths below the package; a folder stands for its modules.
_MODELS = ("models/configuration.py", "models/multiplexers.py", "models/demultiplexers.py")
_MODELS += ("models/heads.py", "models/dialect.py", "models/encoding.py", "models/modeling.py")
_MODELS += ("models/first_positions.py", "models/pruned.py")
_MODELS += (
    "models/build.py",
    "models/released/multiplexers.py",
    "models/released/demultiplexers.py",
)
_MODELS += ("models/released/heads.py", "models/released/dialect.py")
_MODELS += ("model_config.py", "precision.py", "data/collation.py")
_CONVERSION = ("models/released/conversion.py", "models/released/names.py")
_CONVERSION += ("models/released/their_config.py", "training/fetching.py")
_TRAINING = (*_MODELS, "training/stages.py", "training/loop.py", "training/losses.py")
_TRAINING += ("training/rows.py", "training/processes.py")
_TRAINING += ("evaluation/language_modeling.py",)
_SCORE = (*_MODELS, "grouping.py", "evaluation/score.py", "evaluation/metrics.py")
_DATA = ("data/rows.py", "data/prepare.py", "data/sources.py", "data/synthetic", "tasks.py")
_MUXOLOGY = (*_MODELS, "evaluation/muxology.py", "evaluation/language_modeling.py")
_REPORT = ("reporting", "experiments.py", "released_checkpoints.py", "tasks.py")


@dataclass(frozen=True)
class Stage:
    """What decides, beside settings and inputs, whether a stage's results are still right.

    code: the files that decide what it computes. numerics: raised by hand when a change of that code
    changes the results, which are then made anew (tests/test_numerics.py asks). None: the stage is so
    cheap that any change of its code repeats it.
    """

    code: tuple[str, ...]
    numerics: int | None = None
    computes: bool = False  # on a GPU, where there is one


STAGES = {
    "task_data": Stage(_DATA, 1),
    "tokenizer": Stage(_DATA, 1),
    "blocks": Stage(_DATA, 1),
    "released": Stage((*_MODELS, *_CONVERSION), 1),
    "prime": Stage(_TRAINING, 3, computes=True),
    "pretrain": Stage(_TRAINING, 3, computes=True),
    "finetune": Stage(_TRAINING, 3, computes=True),
    "prune": Stage((*_TRAINING, "models/masks.py", "pruning"), 1, computes=True),
    "score": Stage(_SCORE, 3, computes=True),
    "published_scores": Stage(_SCORE, 3, computes=True),
    "ensembles": Stage((*_SCORE, "evaluation/ensembling.py"), 3, computes=True),
    "compositions": Stage((*_SCORE, "evaluation/composition.py"), 3, computes=True),
    "muxology": Stage(_MUXOLOGY, 1, computes=True),
    "throughput": Stage((*_MODELS, "evaluation/throughput.py"), 1, computes=True),
    "tables": Stage(_REPORT),
    "figures": Stage(_REPORT),
    "claims": Stage(_REPORT),
}
