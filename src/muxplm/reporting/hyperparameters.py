"""Tables 7 and 8: the hyper-parameters in force, beside the paper's. Text, so not from tidy rows."""

import pandas as pd

from muxplm.experiments import SIZES
from muxplm.reporting import captions, paper
from muxplm.reporting.cells import Sources
from muxplm.reporting.layout import OURS, PAPER, Layout
from muxplm.sections import ADAM_BETAS
from muxplm.tasks import TASKS


def pretraining(sources: Sources) -> tuple[pd.DataFrame, Layout]:
    """Table 7: one column for each model and size, ours and the paper's."""
    settings = sources.settings
    theirs = paper.reference("table7").set_index(["Hyperparameter", "column"])["value"].fillna("-")
    rows = theirs.index.get_level_values(0).unique()
    cells = {("", "Hyper-parameter"): [_plain(name) for name in rows]}
    for family, size in _columns(sources):
        variant = next(v for v in sources.variants if (v.family, v.size) == (family, size))
        shape, training = settings.shapes[size], settings.training("pretrain", variant.name)
        own = _pretraining_values(settings, variant, shape, training)
        label = f"{variant.recipe.label} {size.upper()}"
        column = f"{variant.recipe.label}/{size.upper()}"
        cells[label, OURS] = [own[name] for name in rows]
        cells[label, PAPER] = [theirs.get((name, column), "-") for name in rows]
    return _table(sources, cells, "Batch sizes are encoder rows, each of N instances.")


def _columns(sources: Sources):
    found = {(v.family, v.size) for v in sources.variants}
    return sorted(found, key=lambda pair: (pair[0], SIZES.index(pair[1])))


def finetuning(sources: Sources) -> tuple[pd.DataFrame, Layout]:
    """Table 8: one column, ours and the paper's."""
    theirs = paper.reference("table8").set_index("Hyperparameter")["value"]
    own = _finetuning_values(sources.settings)
    cells = {
        ("", "Hyper-parameter"): [_plain(name) for name in theirs.index],
        ("Value", OURS): [own[name] for name in theirs.index],
        ("Value", PAPER): list(theirs),
    }
    return _table(sources, cells, "Batch size: encoder rows, each of N instances.")


def _plain(name: str) -> str:
    return name.replace("\\", "")  # the paper's table spells Greek letters as LaTeX does


def _pretraining_values(settings, variant, shape, training) -> dict[str, str]:
    return _training_values(settings.model_of(variant.name), training) | {
        "Number of layers": f"{shape.layers}",
        "Hidden Size": f"{shape.hidden}",
        "FFN intermediate hidden size": f"{shape.intermediate}",
        "Attention heads": f"{shape.heads}",
        "Attention head size": f"{shape.hidden // shape.heads}",
        "Mask percent": f"{100 * training.mask_rate:g}",
        "Learning Rate Decay": "Linear",
        "Warmup steps": f"{int(training.warmup * training.steps)}",
        "Sequence Length": f"{settings.max_length}",
        "Train Steps": f"{training.steps}",
    }


def _finetuning_values(settings) -> dict[str, str]:
    training = settings.finetune
    by_n = {
        f"N = {n}": _training_values(settings.model, training.of_instances(n))
        for n in settings.instances
    }
    names = next(iter(by_n.values()))
    return {name: _by_value({n: by_n[n][name] for n in by_n}) for name in names} | {
        "Learning Rate": _rates(settings),
        "Learning rate decay": "Linear",
        "Warmup fraction": f"{training.warmup:g}",
        "Sequence Length": f"{settings.task_length}",
        "Train Steps": _by_value(
            {TASKS[task].title: training.steps[task] for task in settings.tasks}, always=True
        ),
    }


def _rates(settings) -> str:
    """By N, once for all tasks or for each group of tasks: "A, B: 3. C: 3 for N = 1; 4 for N = 2"."""
    groups = {}
    for task in settings.tasks:
        by_n = {n: settings.finetune.of_instances(n, task) for n in settings.instances}
        rates = _by_value({f"N = {n}": f"{by_n[n].learning_rate:.3g}" for n in by_n})
        groups.setdefault(rates, []).append(TASKS[task].title)
    if len(groups) == 1:
        return next(iter(groups))
    return ". ".join(f"{', '.join(titles)}: {rates}" for rates, titles in groups.items())


def _by_value(values: dict, always=False) -> str:
    """ "3 for A, C; 4 for B", from the smallest value on; one value of all is enough by itself."""
    found = sorted(set(values.values()), key=float)
    if len(found) == 1 and not always:
        return f"{found[0]}"
    named = {value: ", ".join(n for n, v in values.items() if v == value) for value in found}
    return "; ".join(f"{value} for {names}" for value, names in named.items())


def _training_values(model, training) -> dict[str, str]:
    """What both stages have."""
    return {
        "Learning Rate": f"{training.learning_rate:.3g}",
        r"Adam \epsilon": f"{training.adam_epsilon:g}",
        r"Adam \beta_1": f"{ADAM_BETAS[0]}",
        r"Adam \beta_2": f"{ADAM_BETAS[1]}",
        "Attention Dropout": f"{model.dropout:g}",
        "Dropout": f"{model.dropout:g}",
        "Weight Decay": f"{training.weight_decay:g}",
        "Batch Size": f"{training.rows * training.accumulation}",
    }


def _table(sources: Sources, cells: dict, note: str) -> tuple[pd.DataFrame, Layout]:
    frame = pd.DataFrame(cells)
    frame.columns = pd.MultiIndex.from_tuples(frame.columns)
    caption = " ".join(
        part
        for part in (
            captions.title(sources.name),
            "Ours are those of the config in force.",
            note,
            "Overrides apply to some models."
            if captions.overridden(sources.settings, sources.variants)
            else "",
            captions.left_out(sources.target, sources.settings),
        )
        if part
    )
    tidy = frame.copy()
    tidy.columns = ["/".join(part for part in column if part) for column in frame.columns]
    nothing_bold = pd.DataFrame(False, index=frame.index, columns=frame.columns)
    return tidy, Layout(caption, frame, nothing_bold, [""] * len(frame), {})
