"""The data sets on the Hub and their layout in a local mirror, as data. Imports nothing heavy."""

from dataclasses import dataclass, replace

from muxplm.tasks import GLUE

# What a task's two splits consist of.
SPLITS = {"train": ("train",), "validation": ("validation", "validation_mismatched")}


@dataclass(frozen=True)
class Repo:
    """A data set on the Hub, pinned. `skip` lists the `idx` of rows known to be unusable.

    revision: a commit. None where this project knows none: then `branch` says what to look up, and the
    config has to give the commit (`data.revisions`).
    """

    name: str
    revision: str | None
    config: str | None = None
    skip: tuple[int, ...] = ()
    rows_per_document: int = 1
    branch: str = "main"

    def __str__(self):
        return "/".join(filter(None, (self.name, self.config))) + f"@{self.revision}"


def _glue(task, **more):
    return Repo("nyu-mll/glue", "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c", task, **more)


# `datasets` runs no loading scripts any more; a repository that still has one is read through the
# Hub's own conversion.
_CONVERTED = "refs/convert/parquet"
TASKS = {task: _glue(task) for task in GLUE} | {
    # Two questions are empty as published (github.com/huggingface/datasets/issues/277).
    "qqp": _glue("qqp", skip=(310137, 362246)),
    "ner": Repo("eriktks/conll2003", None, branch=_CONVERTED),
    "pos": Repo(
        "universal-dependencies/universal_dependencies", None, "en_ewt", branch="refs/tags/2.17"
    ),
}
CORPUS = (
    Repo("wikimedia/wikipedia", "b04c8d1ceb2f5cd4588862100d08de323dccfbaa", "20231101.en"),
    # One sentence a row, in the books' order. Where a book ends is not marked.
    Repo("bookcorpus/bookcorpus", None, rows_per_document=512, branch=_CONVERTED),
)
# The text of the muxology analysis (section 6.2); never pre-trained on.
WIKITEXT = Repo(
    "Salesforce/wikitext", "b08601e04326c79dfdd32d625aee71d232d685c3", "wikitext-103-raw-v1"
)

LOCAL_CORPUS = "corpus"
LOCAL_WIKITEXT = f"{LOCAL_CORPUS}/wikitext103_validation.parquet"
# Of the paper's tasks; one's own lies in a folder of its name.
_LOCAL_FOLDERS = {task: f"glue/{task}" for task in GLUE} | {
    "ner": "conll2003",
    "pos": "ud_english_ewt",
}


def local_file(task: str, part: str) -> str:
    """Where one part of a task's rows lies below the mirror's folder."""
    return f"{_LOCAL_FOLDERS.get(task, task)}/{part}.parquet"


def pinned(repo: Repo, revisions: dict[str, str]) -> Repo:
    """`repo` at the commit that the config gives for its name, or else at its own."""
    return replace(repo, revision=revisions.get(repo.name, repo.revision))


def unpinned(tasks, revisions: dict[str, str], corpus: bool) -> list[Repo]:
    """The data sets of these tasks (and of the corpus) of which no commit is known."""
    repos = [TASKS[task] for task in tasks] + (list(CORPUS) if corpus else [])
    return [repo for repo in repos if pinned(repo, revisions).revision is None]
