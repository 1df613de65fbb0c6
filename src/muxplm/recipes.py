"""Which settings decide which result.

A recipe is everything that can change a result, and nothing else; its digest is what the workflow
compares, so a changed setting repeats exactly the cells whose outcome it can change. No recipe holds
where files lie, how many threads run, how often a checkpoint is saved, which cells share a process, or
what else the grid holds; no training's holds what only evaluation reads. Imports no torch.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

from muxplm import experiments, hub
from muxplm.fingerprint import code_digest
from muxplm.released_checkpoints import published_id, released_id
from muxplm.sections import SCHEDULE
from muxplm.settings import Settings
from muxplm.stages import STAGES


def digest(recipe) -> str:
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]


def _of(stage: str, **content) -> dict:
    """The code counts by the number raised by hand; where a stage is cheap, by itself."""
    numerics = STAGES[stage].numerics
    return {"stage": stage, "code": code_digest(stage) if numerics is None else numerics, **content}


# --- Data --------------------------------------------------------------------------------------


def task_data(settings: Settings, task: str, split: str) -> dict:
    """Of one split of a task. No text of a synthetic validation split occurs in the training split."""
    data, limit = settings.data, f"max_{split}_rows"
    if data.source == "synthetic":
        rows = {"train": data.synthetic.train_rows.get(task)}
        if split == "validation":
            rows["validation"] = data.synthetic.validation_rows
        source = {"seed": data.synthetic.seed, "rows": rows}
    elif data.source == "local":
        files = [hub.local_file(task, name) for name in hub.SPLITS[split]]
        source = _files(settings.data_folder, tuple(files))
    else:
        source = str(hub.pinned(hub.TASKS[task], data.revisions))
    limits = getattr(data, limit)
    return _of("task_data", source=[data.source, source], task=task, split=split, limit=limits)


def _text(settings: Settings) -> dict:
    """The documents: of the corpus, and of the muxology analysis."""
    data = settings.data
    if data.source == "synthetic":
        source = {"seed": data.synthetic.seed, "documents": data.synthetic.documents}
    elif data.source == "local":
        source = _files(settings.data_folder, (f"{hub.LOCAL_CORPUS}/*.parquet",))
    else:
        source = [str(hub.pinned(repo, data.revisions)) for repo in (*hub.CORPUS, hub.WIKITEXT)]
    return {
        "source": [data.source, source],
        "limit": data.max_documents,
        "validation_fraction": data.validation_fraction,
    }


@lru_cache
def _files(folder: str, patterns: tuple[str, ...]) -> dict:
    """What tells other data under the same names: size and checksum, or where none is given the time."""
    listed, line = Path(folder, "SHA256SUMS"), r"(?m)^(\S+)[ \t]+\*?(?:\./)?(.*\S)"
    sums = {n: s for s, n in re.findall(line, listed.read_text())} if listed.exists() else {}
    found = sorted({file for pattern in patterns for file in Path(folder).glob(pattern)})
    names = {str(file.relative_to(folder)): file.stat() for file in found}
    return {n: [s.st_size, sums.get(n, s.st_mtime_ns)] for n, s in names.items()}


def tokenizer(settings: Settings) -> dict:
    wanted = settings.tokenizer
    if wanted.pretrained:
        version = wanted.revision or _files(wanted.pretrained, ("*",))  # of a folder, its files
        return _of("tokenizer", pretrained=[wanted.pretrained, version])
    sizes = [wanted.vocab_size, wanted.unused, *(["trim"] if wanted.trim else [])]
    return _of("tokenizer", sizes=sizes, text=_text(settings))


def blocks(settings: Settings) -> dict:
    return _of(
        "blocks",
        length=settings.max_length,
        text=_text(settings),
        tokenizer=digest(tokenizer(settings)),
    )


# --- Trainings ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Before:  # the training whose weights another one starts from
    stage: str
    model: str
    recipe: dict


def before(settings: Settings, stage: str, model: str, task="", seed=0) -> Before | None:
    """See `lineage.origin`."""
    variant = settings.variants[model]
    if whole := variant.parent:
        return Before("finetune", whole.name, finetune(settings, whole.name, task, seed))
    if stage == "finetune" and settings.released:
        # Whatever a released checkpoint was trained with, it lies where pre-trained ones do.
        return Before("pretrain", model, released(settings, model))
    earlier = variant.stage_before(stage)
    makers = {"prime": prime, "pretrain": pretrain}
    return Before(earlier, model, makers[earlier](settings, model)) if earlier else None


def prime(settings: Settings, model: str) -> dict:
    return _of("prime", **_training_on_blocks(settings, "prime", model, ignored={"mask_rate"}))


def pretrain(settings: Settings, model: str) -> dict:
    variant = settings.variants[model]
    return _of(
        "pretrain",
        objective=variant.recipe.objective,
        retrieval_rate=variant.retrieval_rate,
        before=_digest_before(settings, "pretrain", model),
        **_training_on_blocks(settings, "pretrain", model),
    )


def _training_on_blocks(settings, stage, model, ignored=frozenset()) -> dict:
    seed, training = settings.variants[model].pretraining_seed, settings.training(stage, model)
    # All other models have 1, and had before it could vary.
    return ({} if seed == 1 else {"seed": seed}) | {
        "model": _model(settings, model),
        "training": training.model_dump(exclude=SCHEDULE | ignored, exclude_none=True),
        "precision": settings.precision,
        "blocks": digest(blocks(settings)),
    }


def finetune(settings: Settings, model: str, task: str, seed: int) -> dict:
    """Of one cell, whatever other cells its job trains."""
    training = settings.training("finetune", model, task)
    content = {
        "model": _model(settings, model),
        "retrieval_rate": settings.variants[model].recipe.finetune_retrieval,
        "training": training.model_dump(exclude=SCHEDULE | {"max_length"}),
    }
    return _of_cell(settings, "finetune", model, task, seed, content)


def prune(settings: Settings, model: str, task: str, seed: int) -> dict:
    """Of one cell of a pruned variant."""
    variant = settings.variants[model]
    training = settings.training("prune", model).model_dump(exclude=SCHEDULE)
    training |= {key: training[key][task] for key in ("steps", "final_steps")}
    of_fisher = {"rows": training["rows"], "passes": training.pop("fisher_passes")}
    content = {"training": of_fisher if variant.pruner == "fisher" else training}
    content["by"] = [variant.pruner, variant.sparsity]
    return _of_cell(settings, "prune", model, task, seed, content)


def _of_cell(settings, stage: str, model: str, task: str, seed: int, content: dict) -> dict:
    return _of(
        stage,
        task=task,
        seed=seed,
        length=settings.task_length,
        precision=settings.precision,
        data=digest(task_data(settings, task, "train")),
        tokenizer=digest(tokenizer(settings)),
        before=_digest_before(settings, stage, model, task, seed),
        **content,
    )


def cell(settings: Settings, model: str, task: str, seed: int) -> dict:
    """Of what is scored: a fine-tuned model, or a pruned one."""
    variant = settings.variants[model].trained
    return _MAKERS[variant.last_stage](settings, variant.name, task, seed)


def _digest_before(settings, stage, model, task="", seed=0) -> str | None:
    found = before(settings, stage, model, task, seed)
    return digest(found.recipe) if found else None


def _model(settings: Settings, name: str) -> dict:
    """The multiplexed or plain encoder, without what the variant is called."""
    variant, model = settings.variants[name], settings.model_of(name)
    family, shape = variant.recipe, settings.shapes[variant.size]
    content = {
        "encoder": family.encoder,
        "shape": shape.model_dump(exclude={"embedding"}),
        "embedding": shape.embedding if family.encoder == "electra" else None,
        "positions": max(settings.max_length, settings.task_length),
        **model.model_dump(exclude={"demultiplexer_layers"}),
    }
    if family.multiplexed:
        content |= {
            "instances": variant.n,
            "parts": [variant.multiplexer, variant.demultiplexer, model.demultiplexer_layers],
            "dialect": variant.dialect,
        }
    return content


# --- The authors' checkpoints ------------------------------------------------------------------


def released(settings: Settings, model: str) -> dict:
    return _checkpoint(settings, released_id(settings.variants[model]))


def published(settings: Settings, model: str, task: str) -> dict:
    return _checkpoint(settings, published_id(settings.variants[model], task))


def _checkpoint(settings: Settings, hub_id: str) -> dict:
    """A mirror's files may change under one name; the Hub's commits do not."""
    source = settings.released
    where = source.revisions.get(hub_id)
    if source.mirror:
        where = _files(source.mirror, (f"{hub_id}/*",))
    return _of("released", hub_id=hub_id, where=where)


# --- Evaluation --------------------------------------------------------------------------------


def score(settings: Settings, model: str, task: str, stage: str = "score") -> dict:
    cells = [digest(cell(settings, model, task, seed)) for seed in settings.training_seeds]
    return _of(stage, models=cells, **_scoring(settings, task, settings.precision_of(model)))


def ensembles(settings: Settings, model: str, task: str) -> dict:
    return score(settings, model, task, "ensembles")


def compositions(settings: Settings, model: str, task: str) -> dict:
    return score(settings, model, task, "compositions")


def published_scores(settings: Settings, model: str, task: str) -> dict:
    cells = [digest(published(settings, model, task))]
    return _of("published_scores", models=cells, **_scoring(settings, task, settings.precision))


def _scoring(settings: Settings, task: str, precision: str) -> dict:
    return {
        "composition_seeds": settings.composition_seeds,
        "precision": precision,
        "length": settings.task_length,
        "data": [digest(task_data(settings, task, split)) for split in hub.SPLITS],
        "tokenizer": digest(tokenizer(settings)),
    }


def muxology(settings: Settings, model: str) -> dict:
    """Of the weights that fine-tuning starts from."""
    trained = _digest_before(settings, "finetune", model)
    return _of("muxology", model=trained, blocks=digest(blocks(settings)))


def throughput(settings: Settings, timed: str) -> dict:
    """Of one set of models that are timed together, a key of experiments.TIMED."""
    variants = experiments.TIMED[timed].variants(settings.axes)
    models = {v.name: _model(settings, v.trained.name) for v in variants}
    for name, task, seed in timed_cells(settings, timed):
        models[name] |= {task: digest(cell(settings, name, task, seed))}
    for variant in variants:
        models[variant.name] |= {"precision": variant.precision} if variant.precision else {}
    return _of(
        "throughput",
        models=models,
        throughput=settings.throughput.model_dump(),
        precision=settings.precision,
        data=digest(task_data(settings, timed_task(settings), "validation")),
        tokenizer=digest(tokenizer(settings)),
    )


def timed_task(settings: Settings) -> str:
    """The task whose rows make the batch of the throughput measurements."""
    return "qqp" if "qqp" in settings.tasks else settings.tasks[0]


def timed_cells(settings: Settings, timed: str) -> list[tuple[str, str, int]]:
    """(model, task, training seed) of the pruned models of a set: how fast they are was learnt."""
    pruned = [v.name for v in experiments.TIMED[timed].variants(settings.axes) if v.sparsity]
    return [(name, t, settings.training_seeds[0]) for name in pruned for t in settings.pruned_tasks]


# --- Reports -----------------------------------------------------------------------------------


def report(settings: Settings, stage: str, *names: str) -> dict:
    """All that the captions of these tables and figures may quote beside the results."""
    targets = [experiments.targets()[name] for name in names]
    chosen = {v.name: v for target in targets for v in target.variants(settings.axes)}
    models = {
        name: [
            settings.shapes[variant.size].model_dump(),
            settings.model_of(name).model_dump(),
            *(
                settings.training(s, name).model_dump(exclude={"save_every"})
                for s in (*variant.trained.stages, variant.trained.last_stage)
            ),
            name in settings.overrides,
        ]
        for name, variant in chosen.items()
    }
    return _of(
        stage,
        targets=list(names),
        models=models,
        seeds=[settings.training_seeds, settings.composition_seeds],
        axes=[settings.families, settings.sizes, settings.instances, settings.tasks],
        lengths=[settings.max_length, settings.task_length],
        source=settings.data.source,
    )


def of_job(settings: Settings, stage: str, *names: str, task="", seed=0, **cell) -> str:
    """The digest for one job of a stage: of its cell, or of all the tasks and seeds that it takes."""
    if names:
        return digest(report(settings, stage, *names))
    make = _MAKERS[stage]
    if isinstance(task, str):
        return digest(make(settings, **cell, **({"task": task} if task else {})))
    if stage in ("finetune", "prune"):
        return digest([make(settings, **cell, task=t, seed=s) for t, s in product(task, seed)])
    return digest([make(settings, **cell, task=t) for t in task])


_MAKERS = {
    make.__name__: make
    for make in (
        *(task_data, tokenizer, blocks, released, published, prime, pretrain, finetune, prune),
        *(score, published_scores, ensembles, compositions, muxology, throughput),
    )
}
