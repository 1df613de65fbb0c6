"""What a run prints: a line for each job that starts, in the paper's words, not Snakemake's block.

The blocks stay in the log file that Snakemake keeps, and in a dry run, which `dryrun` reads. A terminal
also gets a bar for each training that runs.
"""

import contextlib
import logging
import os
import re
import threading
import time

from snakemake_interface_logger_plugins.common import LogEvent
from tqdm import tqdm

from muxplm.costs import cost
from muxplm.dryrun import Job, named
from muxplm.experiments import PRUNERS, Variant
from muxplm.reporting.captions import label
from muxplm.settings import Settings

WORDS = {
    "task_data": "rows of",
    "blocks": "blocks of the corpus",
    "released": "the authors' checkpoint of",
    "prime": "priming",
    "pretrain": "pre-training",
    "finetune": "fine-tuning",
    "prune": "pruning",
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
STEP = re.compile(r"^(.*): step (\d+)/(\d+), ", re.MULTILINE)  # as training/loop.py says it
TAIL = 4096  # bytes of a log, where its last step is


def shorten(logger: logging.Logger, dag, settings: Settings):
    """Makes Snakemake's terminal output one line a job. dag: Snakemake's, of which some jobs run."""
    handlers = [h for h in logger.handlers if h.name == "DefaultStreamHandler"]
    if handlers:
        bars = Bars(handlers[0]) if handlers[0].stream.isatty() else None
        lines = Lines(handlers[0].formatter, dag, settings, bars)
        handlers[0].setFormatter(lines)
        handlers[0].addFilter(lines.shows)


class Lines(logging.Formatter):
    """Snakemake's `usual` formatter, but for jobs that start."""

    def __init__(self, usual: logging.Formatter, dag, settings: Settings, bars: "Bars | None"):
        super().__init__()
        self.usual, self.settings, self.bars = usual, settings, bars
        run = [job for job in dag.needrun_jobs() if job.benchmark]
        self.jobs = {job.jobid: _read(job, dag) for job in run}
        self.logs = {job.jobid: str(path) for job in run for path in job.log}
        self.seconds = {jobid: cost(job, settings).seconds for jobid, job in self.jobs.items()}
        self.finished, self.start = set(), time.monotonic()

    def shows(self, record: logging.LogRecord) -> bool:
        event = getattr(record, "event", None)
        if event == LogEvent.JOB_FINISHED:
            self.finished.add(record.job_id)
        if self.bars:
            self.bars.follow(record, self.logs)
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


class Bars:
    """A bar for each job that trains, by the last step that its log names, below a terminal's lines."""

    def __init__(self, handler: logging.StreamHandler):
        self.stream, self.logs, self.bars = handler.stream, {}, {}
        emit = handler.emit

        def between_bars(record):
            with tqdm.external_write_mode(file=handler.stream):  # clears them, and draws them again
                emit(record)

        handler.emit = between_bars
        threading.Thread(target=self._keep_up, daemon=True).start()

    def follow(self, record: logging.LogRecord, logs: dict):
        """A job of `logs` starts or ends."""
        event = getattr(record, "event", None)
        with tqdm.get_lock():
            if event == LogEvent.JOB_INFO and record.jobid in logs:
                self.logs[record.jobid] = logs[record.jobid]
            elif event in (LogEvent.JOB_FINISHED, LogEvent.JOB_ERROR):
                jobid = record.job_id if event == LogEvent.JOB_FINISHED else record.jobid
                self.logs.pop(jobid, None)
                if jobid in self.bars:
                    self.bars.pop(jobid).close()

    def update(self):
        with tqdm.get_lock():
            for jobid, log in self.logs.items():
                if found := last_step(log):
                    self._show(jobid, *found)

    def _show(self, jobid: int, title: str, step: int, steps: int):
        if jobid not in self.bars:
            self.bars[jobid] = tqdm(
                desc=title,
                total=steps,
                initial=step,
                file=self.stream,
                leave=False,
                dynamic_ncols=True,
                bar_format="{desc} |{bar:20}| {n_fmt}/{total_fmt}",
            )
        bar = self.bars[jobid]
        bar.desc, bar.n, bar.total = title, step, steps
        bar.refresh()

    def _keep_up(self):
        while True:
            time.sleep(1)
            self.update()


def last_step(log: str) -> tuple[str, int, int] | None:
    """Of a training's log: what trains, its last step, and of how many. None where it names none yet."""
    with contextlib.suppress(FileNotFoundError), open(log, "rb") as file:
        file.seek(max(0, os.path.getsize(log) - TAIL))
        found = STEP.findall(file.read().decode(errors="replace"))
        if found:
            title, step, steps = found[-1]
            return title, int(step), int(steps)
    return None


def describe(job: Job, settings: Settings) -> str:
    """A job in the paper's words: "pre-training MUX-BERT base, N = 2"."""
    first, *rest = job.name.split("/")
    if job.stage in ("tables", "figures"):
        first = " ".join(label(first).split())
    elif first in settings.variants:
        first = title(settings.variants[first])
    bundle = [name.replace("_", ", ") for name in rest if name != "averaged"]
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
    if variant.sparsity:
        parts.append(f"{100 * variant.sparsity:g} % pruned by {PRUNERS[variant.pruner]}")
    if variant.precision:
        parts.append(variant.precision)
    return ", ".join(parts)


def _read(job, dag) -> Job:
    """One of Snakemake's jobs as `costs` takes it."""
    stage, name = named(str(job.benchmark))
    files = (tuple(map(str, found)) for found in (job.input, job.output))
    return Job(stage, name, *files, str(job.benchmark), str(dag.reason(job)))
