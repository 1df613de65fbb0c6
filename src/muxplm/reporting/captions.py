"""Sentences under tables and figures: what was measured, at which scale, and what is left out."""

import pandas as pd

from muxplm import experiments, tasks
from muxplm.experiments import SIZES, Target
from muxplm.reporting import paper
from muxplm.reporting.cells import LEARNT, UNLEARNT, Sources
from muxplm.settings import Settings

BEST = (
    "Bold: the best of its column within {block}, as printed. The rule is ours, for the paper's numbers "
    "as well: its own bold may differ."
)
WITHIN_STD = (
    "Bold, within {block}: the best of its column, and what is within the best one's std of it; a rule "
    "of the paper's, applied to its numbers and to ours."
)
MAJORITY = (
    "Majority class: what always answering the training set's most frequent label (its mean, where "
    f"labels are numbers) scores. {UNLEARNT}: less than {LEARNT:g} points above it, and never bold, "
    "since the order of such scores says nothing."
)
RATE = "Rate: the weight of token retrieval beside masked LM in pre-training."

_PARETO = (
    "Score against speed-up over BERT base, measured here (left) and printed in the paper (right), on "
    "the same scales. Grey: the Pareto frontier, the best score among the models that are at least as "
    "fast. Bars of ours: the std of the average over training seeds (of a single one: over composition "
    "seeds), and the lowest and the highest round of the speed-up; of the paper's: its std of a task "
    "over composition seeds, averaged over tasks. Dotted, where points reach down to it: what always "
    "answering the most frequent label scores."
)
_MUXOLOGY = "after each encoder layer of the pre-trained models, mean over the muxology blocks."
FIGURES = {
    "pareto_glue": f"{_PARETO} GLUE: mean over the tasks without WNLI and CoLA.",
    "pareto_token": f"{_PARETO} Token: mean F1 of NER and POS.",
    "muxology_activations": f"Mean absolute hidden state {_MUXOLOGY}",
    "muxology_entropy": (
        f"Entropy of the attention, over heads and positions, {_MUXOLOGY} At most the logarithm of "
        "the number of positions."
    ),
    "training_curves": (
        "Loss in training (mean over the steps since the last entry) and on a small, fixed sample of "
        "the validation blocks, over the positions that the encoder has seen: with N instances, N "
        "times as many tokens. An axis ends a little above the highest validation loss. Thin: another "
        "multiplexer, demultiplexer, dialect or seed. With a retrieval rate the loss is a weighted sum, "
        "which no other can be compared with: it is in the CSV alone."
    ),
    "ensemble_tradeoff": (
        "Score when each instance takes k of the N places of a pass and its class logits are "
        "averaged; k runs from 1 at a line's right end to N at its left. Effective throughput: the "
        "model's, divided by k. Bars: std over training seeds (of a single one: over composition seeds)."
    ),
    "frontier": (
        "Score against speed-up, measured over BERT base in the precision of the first row, for each N, "
        "whole and, along a line, more and more pruned: grey by CoFi, white and dotted by Fisher masks. "
        "A row of panels is a precision; int8: linear layers, quantised as they run. Grey line: the "
        "Pareto frontier of all rows, the best score among the models that are at least as fast. Last "
        "row, on axes of its own: what the paper prints (Table 2), its own models hollow, pruned ones "
        "grey inside, at 60 % (MUX-BERT) and 70 % (BERT, cited there)."
    ),
    "pruning_curves": (
        "CoFi, mean over training seeds. Above: the sparsity that the masks have in expectation, and "
        "the one that is asked for. Below: how far the small model that is left is, in its fine-tuning, "
        "from the predictions and the layers of the model before pruning (loss, mean over the steps "
        "since the last entry)."
    ),
}


FIGURE_LABELS = {
    "pareto_glue": "Figure 4: GLUE against speed-up",
    "pareto_token": "Figure 4: Token against speed-up",
    "muxology_activations": "Figure 5: activations by layer",
    "muxology_entropy": "Figure 5: entropy of attention by layer",
}


def scale(settings: Settings, variants=None) -> str:
    """Where the numbers come from and how small `variants` (None: all of the config) are."""
    source = {
        "synthetic": "Ours is small scale: the embedded synthetic language",
        "local": "Ours is small scale: local text and tasks",
        "hub": "Ours: text and tasks from the Hub",
    }[settings.data.source]
    variants = list(settings.variants.values()) if variants is None else variants
    sizes = [size for size in SIZES if size in {variant.size for variant in variants}]
    shapes = [settings.shapes[size] for size in sizes]
    layers, widths = ([str(getattr(s, key)) for s in shapes] for key in ("layers", "hidden"))
    words = f"{', '.join(layers)} layers of width {', '.join(widths)}"
    words += f" ({', '.join(sizes)})" if len(sizes) > 1 else ""
    exceptions = "; overrides apply to some models" if overridden(settings, variants) else ""
    return (
        f"{source}, {words}, {_steps(settings, variants, 'prime')} steps of priming and "
        f"{_steps(settings, variants, 'pretrain')} of pre-training{exceptions}."
    )


def overridden(settings: Settings, variants) -> bool:
    return any(variant.name in settings.overrides for variant in variants)


def _steps(settings: Settings, variants, stage: str) -> str:
    trained = [variant.name for variant in variants if stage in variant.stages]
    steps = {settings.training(stage, name).steps for name in trained} or {0}
    return f"{min(steps)}" if len(steps) == 1 else f"{min(steps)} to {max(steps)}"


def left_out(target: Target, settings: Settings) -> str:
    """Which of the paper's rows and tasks this config does not ask for; "" if it has them all."""
    multiplexed = [n for n in paper.INSTANCES if target.instances is None or n in target.instances]
    missing = {
        "families": [f for f in target.families if f not in settings.families],
        "sizes": [size for size in target.sizes if size not in settings.sizes],
        "N": [str(n) for n in multiplexed if n not in settings.instances],
        "tasks": [tasks.TASKS[t].title for t in target.tasks if t not in settings.tasks],
    }
    parts = [f"{axis} {', '.join(names)}" for axis, names in missing.items() if names]
    return f"Left out by this preset: {'; '.join(parts)}." if parts else ""


def released(sources: Sources) -> list[str]:
    """What the table of the authors' models shows."""
    seeds = count(len(sources.settings.composition_seeds), "composition seed")
    tmux = "The weights are DataMUX's own; the numbers beside them are this paper's for T-MUX."
    return [
        "The authors' published fine-tuned weights, converted, on the whole validation sets, in rows "
        f"of {sources.settings.task_length} tokens; no training. Mean and std over {seeds}. The paper's "
        "numbers are of its own composition seeds, and its scripts drop part of the validation rows.",
        *([tmux] if sources.name == "released_tmux" else []),
    ]


def averaged(group: str, names: tuple[str, ...], selected: tuple[str, ...]) -> str:
    """Which tasks an average is over."""
    ours = [tasks.TASKS[name].title for name in names if name in selected]
    if not ours:
        return f"{group} was not measured."
    sentence = f"{group}: mean of {', '.join(ours)}"
    if len(ours) < len(names):
        sentence += f" (the paper's: of all {count(len(names), 'task')})"
    return sentence + "."


def all_rows(variants) -> str:
    """Which model a table is of whose rows do not say it."""
    labels = dict.fromkeys(variant.recipe.label for variant in variants)
    sizes = dict.fromkeys(variant.size for variant in variants)
    return f"All rows: {', '.join(labels)}, {', '.join(sizes)}."


def stds(settings: Settings, averages: bool, trainings: bool = False) -> str:
    """averages: some columns are averages over tasks. trainings: the std over trainings is there too."""
    composition, training = len(settings.composition_seeds), len(settings.training_seeds)
    over_composition = (
        f"over {count(composition, 'composition seed')} (which instances are multiplexed together), "
        f"averaged over {count(training, 'training seed')}"
    )
    found = f"Means have their std: {over_composition}."
    if trainings and training > 1:
        found = (
            f"Means have two stds: {over_composition}, as the paper's; then (in LaTeX above) over the "
            "training seeds, of means over composition seeds."
        )
    return found + (" An average over tasks has the mean of its tasks' stds." if averages else "")


def maxima(settings: Settings, averages: bool) -> str:
    pairs = len(settings.composition_seeds) * len(settings.training_seeds)
    return (
        f"Max: over all {count(pairs, 'pair')} of training and composition seed; the paper's is over "
        "composition seeds of one training."
        + (" An average over tasks has the mean of its tasks' maxima." if averages else "")
    )


def speed(sources: Sources) -> str:
    timed = sources.throughput
    if timed["reference"] is None:
        return "Speed-up: none, for no plain model was timed."
    return (
        f"Speed-up: over {timed['reference']}, median of the rounds with the lowest and the "
        f"highest, on {timed['device']}, {count(timed['threads'], 'thread')}, "
        f"{timed['precision']}, batches of {timed['batch']} instances of {timed['length']} tokens."
    )


def bar(found) -> float:
    """Half the error bar of a score in `found`, which has the statistics of `scores.aggregate`."""
    lonely = pd.isna(found["average_std_training"])
    return found["average_std" if lonely else "average_std_training"]


def bars(settings: Settings) -> str:
    """What `bar` is under this config."""
    training, composition = len(settings.training_seeds), len(settings.composition_seeds)
    if training > 1:
        return f"std over {count(training, 'training')}"
    return f"std over {count(composition, 'composition')} of one training"


def figure(name: str, settings: Settings) -> str:
    """What a figure shows, at which scale, and what the config leaves out of it."""
    target = experiments.FIGURES[name]
    sentences = [
        FIGURES.get(name, f"{target.title}."),
        scale(settings, target.variants(settings.axes)),
        left_out(target, settings),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def label(name: str) -> str:
    """What a table or figure is called in the HTML report, which sorts by it."""
    if name in FIGURE_LABELS:
        return FIGURE_LABELS[name]
    number, words = name.removeprefix("table"), experiments.targets()[name].title
    # A page shows two spaces as one, and " 9" comes before "10".
    return f"Table {number:>2}: {words}" if number.isdigit() else words


def category(name: str) -> str:
    """Where the HTML report lists a table."""
    return "Tables" if name.startswith("table") else "Tables beyond the paper"


def title(name: str) -> str:
    """What the target is, and which table of the paper it stands beside."""
    words = experiments.TABLES[name].title
    number = name.removeprefix("table")
    if not number.isdigit():
        return f"{words}. The paper has no such table."
    return f"{words} beside Table {number} of the paper (arXiv 2302.12441)."


def count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")
