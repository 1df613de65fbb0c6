"""Each task's metrics, all in -1..1 (most in 0..1), by the libraries that the field trusts."""

import warnings

import numpy as np
from scipy.stats import pearsonr, spearmanr
from seqeval.metrics import f1_score as seqeval_f1
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from muxplm.tasks import Task


def score(task: Task, predictions: list, labels: list) -> dict[str, float]:
    """predictions and labels: one class, one float, or one list of tag codes per row."""
    if task.kind == "regression":
        return {
            "spearman": _defined(spearmanr, predictions, labels),
            "pearson": _defined(pearsonr, predictions, labels),
        }
    if task.kind == "tagging":
        return _tagging(task, predictions, labels)
    scores = {"accuracy": accuracy_score(labels, predictions)}
    if len(task.labels) == 2:
        scores["f1"] = f1_score(labels, predictions, zero_division=0)
        scores["matthews"] = matthews_corrcoef(labels, predictions)
    return {name: float(value) for name, value in scores.items()}


def majority(task: Task, train_labels: list, labels: list) -> dict[str, float]:
    """The scores of always answering the training set's most frequent label (or its mean)."""
    if task.kind == "regression":
        return score(task, [float(np.mean(train_labels))] * len(labels), labels)
    if task.kind == "tagging":
        most = _most_frequent([tag for row in train_labels for tag in row])
        return score(task, [[most] * len(row) for row in labels], labels)
    return score(task, [_most_frequent(train_labels)] * len(labels), labels)


def _most_frequent(values):
    found, counts = np.unique(values, return_counts=True)
    return found[counts.argmax()].item()


def _defined(correlation, predictions, labels) -> float:
    """0 where a constant prediction leaves the correlation undefined."""
    if len(set(predictions)) < 2:
        return 0.0
    return float(correlation(predictions, labels).statistic)


def _tagging(task, predictions, labels):
    flat_predictions = [tag for row in predictions for tag in row]
    flat_labels = [tag for row in labels for tag in row]
    with warnings.catch_warnings():
        # seqeval warns that UPOS tags are not entity tags. The paper scores POS with it all the same:
        # it cuts each tag's first letter and merges equal neighbours. token_f1 stands beside it.
        warnings.simplefilter("ignore")
        entity_f1 = seqeval_f1(
            [[task.labels[tag] for tag in row] for row in labels],
            [[task.labels[tag] for tag in row] for row in predictions],
            zero_division=0,
        )
    return {
        "seqeval_f1": float(entity_f1),
        "token_f1": float(f1_score(flat_labels, flat_predictions, average="micro")),
        "token_macro_f1": float(
            f1_score(flat_labels, flat_predictions, average="macro", zero_division=0)
        ),
    }
