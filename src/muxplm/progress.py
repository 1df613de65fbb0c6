"""What a run prints: a line for each job that starts, in the paper's words, not Snakemake's block.

The blocks stay in the log file that Snakemake keeps, and in a dry run, which `dryrun` reads.
"""

import logging
import time

from snakemake_interface_logger_plugins.common import LogEvent

from muxplm.costs import cost
from muxplm.dryrun import Job, named
from muxplm.experiments import Variant
from muxplm.reporting.captions import label
from muxplm.settings import Settings

WORDS = {
    "task_data": "rows of",
    "blocks": "blocks of the corpus",
    "released": "the authors' checkpoint of",
    "prime": "priming",
    "pretrain": "pre-training",
    "finetune": "fine-tuning",
    "score": "scoring",
    "published_scores": "scoring the authors' fine-tuned",
    "ensembles": "ensembles of",
    "compositions": "composition strategies of",
    "muxology": "muxology of",
    "throughput": "throughput of",
    "tables": "writing",
    "figures": "drawing",
}
# What Snakemake says of a job beside the line that is ours, and of none.
CHATTER = {
    LogEvent.JOB_STARTED,
    LogEvent.JOB_FINISHED,
    LogEvent.PROGRESS,
    LogEvent.SHELLCMD,
    LogEvent.GROUP_INFO,
}


def shorten(logger: logging.Logger, dag, settings: Settings):
    """Makes Snakemake's terminal output one line a job. dag: Snakemake's, of which some jobs run."""
    handlers = [h for h in logger.handlers if h.name == "DefaultStreamHandler"]
    if handlers:
        lines = Lines(handlers[0].formatter, dag, settings)
        handlers[0].setFormatter(lines)
        handlers[0].addFilter(lines.shows)


class Lines(logging.Formatter):
    """Snakemake's `usual` formatter, but for jobs that start."""

    def __init__(self, usual: logging.Formatter, dag, settings: Settings):
        super().__init__()
        self.usual, self.settings = usual, settings
        self.jobs = {job.jobid: _read(job, dag) for job in dag.needrun_jobs() if job.benchmark}
        self.seconds = {jobid: cost(job, settings).seconds for jobid, job in self.jobs.items()}
        self.finished, self.start = set(), time.monotonic()

    def shows(self, record: logging.LogRecord) -> bool:
        event = getattr(record, "event", None)
        if event == LogEvent.JOB_FINISHED:
            self.finished.add(record.job_id)
        if event == LogEvent.JOB_INFO:
            return record.jobid in self.jobs
        return event not in CHATTER and record.msg != "Select jobs to execute..."

    def format(self, record: logging.LogRecord) -> str:
        if getattr(record, "event", None) != LogEvent.JOB_INFO:
            return self.usual.format(record)
        done, total = len(self.finished & set(self.jobs)), len(self.jobs)
        words = describe(self.jobs[record.jobid], self.settings)
        return f"{done:>{len(str(total))}} of {total} done, {self.time_left()}: {words}"

    def time_left(self) -> str:
        """By the plan's estimates, and by how they compare with what the finished jobs took."""
        total = sum(self.seconds.values())
        done = sum(self.seconds.get(jobid, 0.0) for jobid in self.finished)
        if done > 0.05 * total:
            left = (total - done) * (time.monotonic() - self.start) / done
        else:
            left = total / self.settings.plan.jobs_at_once
        return f"{left / 3600:.1f} h left" if left >= 7200 else f"{max(1, left / 60):.0f} min left"


def describe(job: Job, settings: Settings) -> str:
    """A job in the paper's words: "pre-training MUX-BERT base, N = 2"."""
    first, *rest = job.name.split("/")
    if job.stage in ("tables", "figures"):
        first = " ".join(label(first).split())
    elif first in settings.variants:
        first = title(settings.variants[first])
    bundle = [name.replace("_", ", ") for name in rest if name != "all"]
    words = [WORDS.get(job.stage, job.stage), ", ".join([first, *bundle])]
    return " ".join(word for word in words if word)


def title(variant: Variant) -> str:
    """ "MUX-BERT base, N = 2", and in what it differs from its family."""
    family, parts = variant.recipe, [f"{variant.recipe.label} {variant.size}"]
    if family.multiplexed:
        parts.append(f"N = {variant.n}")
    for part in ("multiplexer", "demultiplexer"):
        if getattr(variant, part) != getattr(family, part):
            parts.append(f"{getattr(variant, part)} {part}")
    if variant.retrieval_rate:
        parts.append(f"retrieval rate {variant.retrieval_rate:g}")
    if variant.dialect != "paper":
        parts.append(f"{variant.dialect} dialect")
    if variant.pretraining_seed != 1:
        parts.append(f"pre-training seed {variant.pretraining_seed}")
    return ", ".join(parts)


def _read(job, dag) -> Job:
    """One of Snakemake's jobs as `costs` takes it."""
    stage, name = named(str(job.benchmark))
    files = (tuple(map(str, found)) for found in (job.input, job.output))
    return Job(stage, name, *files, str(job.benchmark), str(dag.reason(job)))
