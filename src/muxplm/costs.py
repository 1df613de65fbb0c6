"""What jobs cost: seconds, floating-point operations, bytes, all from the settings' shapes alone.

tests/test_plan.py holds the formulas against real models. Imports neither torch nor transformers.
"""

import csv
from collections import defaultdict
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from muxplm import experiments, recipes
from muxplm.dryrun import Job
from muxplm.experiments import Variant
from muxplm.files import read_json
from muxplm.settings import Settings
from muxplm.stages import TRAININGS
from muxplm.tasks import TASKS
from muxplm.trained import recorded

FLOAT = 4  # bytes of a weight; checkpoints are float32
WITH_OPTIMIZER = 3  # a training's checkpoint holds the weights and both of Adam's moments
BACKWARD = 3  # a training step costs as much as three forward passes
STRATEGIES = 4  # of composition
ASSUMED_ROWS = 10_000  # of a validation split that is not there yet; MNLI's is about as large


@dataclass(frozen=True)
class Cost:
    seconds: float
    measured: bool  # by an earlier run of the same job, not estimated
    disk: int | None  # bytes that stay; None if unknown
    scratch: int  # bytes while it runs


def cost(job: Job, settings: Settings) -> Cost:
    seconds = None
    if job.why != "settings changed":  # otherwise the benchmark is of another training
        seconds = measured_seconds(job.benchmark)
    disk, scratch = disk_use(job, settings)
    if seconds is not None:
        return Cost(seconds, True, disk, scratch)
    return Cost(estimate(job.stage, job_flops(job, settings), settings), False, disk, scratch)


def estimate(stage: str, flops: float, settings: Settings) -> float:
    """Seconds of a job of `stage`, from the plan's figures."""
    devices = max(1, settings.resources_of(stage).gpu or 0)
    return flops / (settings.plan.flops * devices) + settings.plan.startup_seconds


def measured_seconds(benchmark: str) -> float | None:
    """The seconds that Snakemake noted when the job last ran."""
    try:
        with open(benchmark, newline="") as file:
            (row,) = csv.DictReader(file, delimiter="\t")
            return float(row["s"])
    except (OSError, ValueError, KeyError):
        return None


def job_flops(job: Job, settings: Settings) -> float:
    """Floating-point operations of one job; 0 for the stages that prepare data or write tables."""
    if job.stage in ("prime", "pretrain"):
        return training_flops(job.stage, job.model, settings)
    if job.stage in ("finetune", "prune"):
        flops = finetuning_flops if job.stage == "finetune" else pruning_flops
        cells = cells_to_train(job, settings)
        return sum(flops(job.model, task, settings) for task, _ in cells)
    if job.stage in ("score", "published_scores", "compositions", "ensembles"):
        bundles = settings.bundles_of(tasks_of(job.model, settings))
        tasks = bundles.get(job.bundle, [job.bundle])  # ensembles: always a task
        return sum(scoring_flops(job.stage, job.model, task, settings) for task in tasks)
    if job.stage == "throughput":
        wanted = settings.throughput
        trials = 2 * wanted.trials * wanted.batches  # the whole batch, and the best micro-batch
        passes = trials + 3 * len(wanted.micro_batches)  # the search for the latter
        variants = experiments.TIMED[job.name].variants(settings.axes)
        variants += [
            settings.variants[name] for name, *_ in recipes.timed_cells(settings, job.name)
        ]
        one = [row_flops(v, settings, "classification", wanted.length) / v.n for v in variants]
        return sum(one) * wanted.batch * passes
    return 0.0


def cells_to_train(job: Job, settings: Settings) -> list[tuple[str, int]]:
    """The (task, training seed) of a job that are not there yet: it adopts the others."""
    tasks, seeds = settings.trainings_of(tasks_of(job.model, settings))[job.bundle]
    return [
        (task, seed)
        for task, seed in product(tasks, seeds)
        if recorded(settings.paths.finetuned(job.model, task, seed))
        != recipes.digest(recipes.cell(settings, job.model, task, seed))
    ]


def tasks_of(model: str, settings: Settings) -> list[str]:
    """The tasks that a variant is fine-tuned on, or pruned."""
    variant = settings.variants[model]
    return [task for task in settings.tasks if settings.has_cells(variant, task)]


def trainings(job: Job, settings: Settings) -> int:
    """How many models a job trains."""
    if job.stage in ("finetune", "prune"):
        return len(cells_to_train(job, settings))
    return int(job.stage in TRAININGS)


def training_flops(stage: str, model: str, settings: Settings) -> float:
    """One training on blocks."""
    training, variant = settings.training(stage, model), settings.variants[model]
    objective = "retrieval" if stage == "prime" else variant.recipe.objective
    forward = row_flops(variant, settings, objective, settings.max_length, training.mask_rate)
    if stage == "pretrain" and variant.retrieval_rate:
        forward += head_flops(variant, settings, "retrieval", settings.max_length)
    return BACKWARD * forward * training.rows * training.accumulation * training.steps


def finetuning_flops(model: str, task: str, settings: Settings) -> float:
    """One training on one task."""
    training = settings.training("finetune", model, task)
    rows = training.rows * training.accumulation * training.steps
    forward, variant = _task_flops(model, task, settings), settings.variants[model]
    if variant.recipe.finetune_retrieval:  # T-MUX reads its tokens back beside the task
        forward += head_flops(variant, settings, "retrieval", settings.task_length)
    return BACKWARD * rows * forward


def pruning_flops(model: str, task: str, settings: Settings) -> float:
    """Of one cell: a student under masks, then the small one, beside a teacher's forward passes."""
    training, variant = settings.training("prune", model), settings.variants[model]
    whole, small = (_task_flops(name, task, settings) for name in (variant.parent.name, model))
    if variant.pruner == "fisher":
        return BACKWARD * training.fisher_passes * training.rows * whole
    rows = training.rows * training.accumulation
    masked, fixed = training.steps[task], training.final_steps[task]
    return rows * (masked * (BACKWARD + 1) * whole + fixed * (BACKWARD * small + whole))


def scoring_flops(stage: str, model: str, task: str, settings: Settings) -> float:
    """All passes over a task's validation rows: how many depends on what is asked."""
    n = settings.variants[model].n
    # Nothing depends on the composition where each row goes alone.
    compositions = len(settings.composition_seeds) if n > 1 else 1
    passes = {"compositions": STRATEGIES, "ensembles": sum(range(1, n + 1))}.get(stage, 1)
    seeds = 1 if stage == "published_scores" else len(settings.training_seeds)
    rows = validation_rows(task, settings) / n * seeds
    return rows * compositions * passes * _task_flops(model, task, settings)


def _task_flops(model: str, task: str, settings: Settings) -> float:
    kind = TASKS[task].kind
    return row_flops(settings.variants[model], settings, kind, settings.task_length)


def validation_rows(task: str, settings: Settings) -> int:
    manifest = settings.paths.task_data(task, "validation")
    if Path(manifest).exists():
        return sum(read_json(manifest)["rows"].values())
    if settings.data.source == "synthetic":
        return settings.data.synthetic.validation_rows
    return min(ASSUMED_ROWS, settings.data.max_validation_rows or ASSUMED_ROWS)


def row_flops(
    variant: Variant, settings: Settings, objective: str, length: int, mask_rate=0.0
) -> float:
    """One forward pass of one sequence through the encoder, which carries N instances.

    Two operations for each weight and position, and the attention's two products with L positions.
    `objective` is a key of `muxplm.models.build.CLASSES`.
    """
    shape, n = settings.shapes[variant.size], variant.n
    attention = 4 * shape.hidden * length
    layers = shape.layers * (2 * layer_parameters(variant, shape) + attention)
    layers *= 1 - variant.sparsity
    prefix = n if variant.demultiplexer == "prefix" and variant.recipe.multiplexed else 0
    flops = layers * (length + prefix)
    if variant.recipe.multiplexed and variant.multiplexer == "contextual":
        within = 2 * contextual_parameters(variant, settings)
        flops += (within + 4 * _embedding(variant, shape) * length) * n * length
    return flops + head_flops(variant, settings, objective, length, mask_rate)


def head_flops(
    variant: Variant, settings: Settings, objective: str, length: int, mask_rate=0.0
) -> float:
    """Of one such sequence, what comes after the encoder. The objective says at how many positions."""
    hidden, n = settings.shapes[variant.size].hidden, variant.n
    width = _embedding(variant, settings.shapes[variant.size])
    positionwise = {
        "retrieval": length,
        "mlm": n * length * mask_rate,
        "rtd": n * length,
        "tagging": n * length,
    }
    read, flops = positionwise.get(objective, n), 0.0
    if variant.recipe.multiplexed:
        # The first layer's halves: of states, which the instances share, and of keys, if not learnt.
        first = length if objective in positionwise else 1
        first += n if variant.demultiplexer == "prefix" else 0
        others = settings.model_of(variant.name).demultiplexer_layers - 1
        flops += 2 * hidden**2 * (first + others * read)
    if objective == "rtd":
        flops += 2 * hidden**2 * read
    if objective in ("retrieval", "mlm"):
        flops += 2 * (width * settings.tokenizer.vocab_size + width * hidden) * read
    return flops


def disk_use(job: Job, settings: Settings) -> tuple[int | None, int]:
    """(bytes of its results, bytes in scratch while it runs)."""
    if job.stage in ("released", "prime", "pretrain"):
        variant = settings.variants[job.model]
        objective = "retrieval" if job.stage == "prime" else variant.recipe.objective
        size = FLOAT * parameters(variant, settings, objective)
        return size, WITH_OPTIMIZER * size
    if job.stage in ("finetune", "prune"):
        variant = settings.variants[job.model]
        tasks, seeds = settings.trainings_of(tasks_of(job.model, settings))[job.bundle]
        kinds = [TASKS[task].kind for task in tasks]
        sizes = [FLOAT * parameters(variant, settings, kind) for kind in kinds]
        # Finished models wait in scratch for the rest of their bundle.
        return sum(sizes) * len(seeds), sum(sizes) * len(seeds) + WITH_OPTIMIZER * max(sizes)
    if job.stage == "blocks":
        splits = ("train", "validation", "muxology")
        binaries = [Path(settings.paths.blocks).with_name(f"{split}.bin") for split in splits]
        known = all(file.exists() for file in binaries)
        return (sum(file.stat().st_size for file in binaries) if known else None), 0
    return 0, 0


def longest_chain(costs: dict[Job, Cost]) -> float:
    """Seconds of the most expensive sequence of jobs that must wait for one another."""
    makers = {output: job for job in costs for output in job.outputs}
    ends = {}

    def end(job):
        if job not in ends:
            before = {makers[file] for file in job.inputs if file in makers}
            ends[job] = costs[job].seconds + max(map(end, before), default=0.0)
        return ends[job]

    return max(map(end, costs), default=0.0)


def seconds_ahead(settings: Settings) -> dict[tuple[str, str], float]:
    """By (stage, variant): from a job's start to the end of the last one that waits for it.

    Estimated as if nothing were there yet. Where variants share a priming, the longest of them counts.
    """
    found, same = {}, defaultdict(list)
    for name, variant in settings.variants.items():
        jobs, known = (
            {s: training_flops(s, name, settings) for s in variant.stages},
            tasks_of(name, settings),
        )
        of_cell = pruning_flops if variant.parent else finetuning_flops
        if variant.last_stage:
            jobs[variant.last_stage] = max(
                len(seeds) * sum(of_cell(name, task, settings) for task in tasks)
                for tasks, seeds in settings.trainings_of(known).values()
            )
        jobs["score"] = max(
            sum(scoring_flops("score", name, task, settings) for task in tasks)
            for tasks in settings.bundles_of(known).values()
        )
        ahead = 0.0
        for stage, flops in reversed(jobs.items()):
            ahead += estimate(stage, flops, settings)
            found[stage, name] = ahead
        if "prime" in jobs:
            same[recipes.digest(recipes.prime(settings, name))].append(("prime", name))
    for primings in same.values():
        found |= dict.fromkeys(primings, max(found[priming] for priming in primings))
    return found


# --- Parameters, from the shapes alone ---------------------------------------------------------


def parameters(variant: Variant, settings: Settings, objective: str) -> int:
    """Weights of the model that `objective` trains; tests/test_plan.py counts the real ones."""
    shape, hidden = settings.shapes[variant.size], settings.shapes[variant.size].hidden
    width, vocabulary = _embedding(variant, shape), settings.tokenizer.vocab_size
    layers = round(shape.layers * layer_parameters(variant, shape) * (1 - variant.sparsity))
    total = vocabulary * width + layers
    positions = max(settings.max_length, settings.task_length)
    if variant.recipe.encoder != "modernbert":  # whose positions are rotations
        total += positions * width
    if width != hidden:
        total += width * hidden
    if variant.recipe.multiplexed:
        total += demultiplexer_parameters(variant, settings)
        total += variant.n * (hidden if variant.demultiplexer == "rsa" else 0)
        if variant.multiplexer == "contextual":
            total += contextual_parameters(variant, settings) + positions * width
    if objective in ("retrieval", "mlm"):
        total += hidden * width + vocabulary
    elif objective == "rtd" or not (variant.recipe.multiplexed or objective == "tagging"):
        total += hidden * hidden  # a pooling or discriminating layer before the last
    return total


def layer_parameters(variant: Variant, shape) -> int:
    # ModernBERT's feed-forward layer is gated: its first matrix is twice as wide.
    matrices = 3 if variant.recipe.encoder == "modernbert" else 2
    return _layer(shape.hidden, shape.intermediate, matrices)


def demultiplexer_parameters(variant: Variant, settings: Settings) -> int:
    hidden = settings.shapes[variant.size].hidden
    layers = settings.model_of(variant.name).demultiplexer_layers
    return (layers + 1) * hidden * hidden  # the MLP, whose first layer has the key's half too


def contextual_parameters(variant: Variant, settings: Settings) -> int:
    shape = settings.shapes[variant.size]
    return 2 * _layer(_embedding(variant, shape), shape.intermediate, 2)


def _layer(width: int, intermediate: int, matrices: int) -> int:
    """The matrices and their biases; norms are too small to count."""
    return 4 * width * (width + 1) + matrices * width * intermediate + intermediate + width


def _embedding(variant: Variant, shape) -> int:
    return (
        (shape.embedding or shape.hidden) if variant.recipe.encoder == "electra" else shape.hidden
    )
