"""What a run prints of its jobs, from the records that Snakemake logs."""

import io
import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.logging import ColorizingTextHandler
from snakemake_interface_logger_plugins.common import LogEvent

from muxplm import config, experiments, progress
from muxplm.axes import Axes
from muxplm.dryrun import Job
from muxplm.experiments import Variant
from muxplm.stages import STAGES

ROOT = Path(__file__).parent.parent


@pytest.fixture
def settings(monkeypatch):
    monkeypatch.chdir(ROOT)  # the default config is found from there
    return config.load(["config/smoke.yaml"])


def job(stage: str, name: str) -> Job:
    return Job(stage, name, (), (), "", "")


def dag_of(jobs):
    return SimpleNamespace(needrun_jobs=lambda: iter(jobs), reason=lambda job: "")


@pytest.mark.parametrize(
    ("stage", "name", "words"),
    [
        ("task_data", "mnli-train", "rows of mnli-train"),
        ("tokenizer", "", "tokenizer"),
        ("blocks", "", "blocks of the corpus"),
        ("pretrain", "mux-bert-base-n2", "pre-training MUX-BERT base, N = 2"),
        (
            "prime",
            "mux-bert-base-n2-contextual",
            "priming MUX-BERT base, N = 2, contextual multiplexer",
        ),
        ("finetune", "bert-base/averaged", "fine-tuning BERT base"),
        ("score", "bert-base/sst2_seed1", "scoring BERT base, sst2, seed1"),
        ("tables", "table1", "writing Table 1: Scores and speed-up"),
        ("figures", "pareto_glue", "drawing Figure 4: GLUE"),
        ("claims", "", "claims"),
    ],
)
def test_a_job_in_words(settings, stage, name, words):
    assert progress.describe(job(stage, name), settings).startswith(words)


def test_no_two_variants_are_called_the_same(settings):
    every = Axes(
        tuple(experiments.FAMILIES),
        experiments.SIZES,
        (1, 2, 5, 10),
        ("sst2", "ner"),
        dialects=tuple(experiments.DIALECTS),
        pretraining_seeds=(1, 2),
    )
    variants = experiments.grid(every).values()
    assert len({progress.title(variant) for variant in variants}) == len(variants)
    assert progress.title(Variant("bert", "large")) == "BERT large"


def test_every_stage_is_said(settings):
    for stage in set(STAGES) - {"tables", "figures"}:
        assert progress.describe(job(stage, "bert-base/averaged"), settings).endswith("BERT base")


def test_each_job_is_one_line_and_errors_stay(settings):
    names = ["bert-base", "electra-base", "mux-bert-base-n2"]
    jobs = [
        SimpleNamespace(
            jobid=i,
            input=[],
            output=[],
            log=[f"r/logs/pretrain/{name}.log"],
            benchmark=f"r/benchmarks/pretrain/{name}.tsv",
        )
        for i, name in enumerate(names)
    ]
    gathering = SimpleNamespace(jobid=3, benchmark=None)
    stream = io.StringIO()
    handler = ColorizingTextHandler(
        stream=stream, formatter=logging.Formatter("usual: %(message)s")
    )
    handler.name = "DefaultStreamHandler"
    logger = logging.Logger("snakemake.test")
    logger.addHandler(handler)
    progress.shorten(logger, dag_of([*jobs, gathering]), settings)
    for i in range(4):
        logger.info("Select jobs to execute...")
        logger.info("Execute 1 jobs...", extra={"event": LogEvent.JOB_STARTED})
        logger.info(None, extra={"event": LogEvent.JOB_INFO, "jobid": i})
        logger.info("muxplm pretrain ...", extra={"event": LogEvent.SHELLCMD})
        logger.info("Finished", extra={"event": LogEvent.JOB_FINISHED, "job_id": i})
        logger.info(None, extra={"event": LogEvent.PROGRESS})
    logger.error("it broke", extra={"event": LogEvent.JOB_ERROR})
    lines = stream.getvalue().splitlines()
    assert [line for line in lines if line] == [
        "0 of 3 done, 1 min left: pre-training BERT base",
        "1 of 3 done, 1 min left: pre-training ELECTRA base",
        "2 of 3 done, 1 min left: pre-training MUX-BERT base, N = 2",
        "usual: it broke",
    ]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_a_bar_for_the_training_that_runs(settings, tmp_path):
    log, stream = tmp_path / "bert-base.log", Terminal()
    job = SimpleNamespace(
        jobid=7, input=[], output=[], log=[log], benchmark="r/benchmarks/pretrain/bert-base.tsv"
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter())
    handler.name = "DefaultStreamHandler"
    logger = logging.Logger("snakemake.test")
    logger.addHandler(handler)
    progress.shorten(logger, dag_of([job]), settings)
    bars = handler.formatter.bars
    logger.info(None, extra={"event": LogEvent.JOB_INFO, "jobid": 7})
    said = "0 of 1 done, 1 min left: pre-training BERT base\n"
    bars.update()  # no log yet
    assert stream.getvalue() == said
    log.write_text("pretrain bert-base: step 210/4200, loss 3.1, 9 s\n" * 90)
    bars.update()
    assert re.search(r"\rpretrain bert-base \|.{20}\| 210/4200$", stream.getvalue())
    logger.warning("a word")
    *_, shown = re.split(r"\r +\r", stream.getvalue())  # the bar is blanked, then drawn again
    assert shown.startswith("a word\n\rpretrain bert-base |")
    with log.open("a") as file:
        file.write("pretrain bert-base: step 420/4200, loss 2.9, 18 s\nsomething else\n")
    bars.update()
    assert stream.getvalue().endswith("| 420/4200")
    logger.info("Finished", extra={"event": LogEvent.JOB_FINISHED, "job_id": 7})
    bars.update()
    assert re.search(r"\| 420/4200\r +\r$", stream.getvalue())


def test_the_time_left_follows_how_fast_it_goes(settings, monkeypatch):
    """Ten equal jobs; the first two took a minute each."""
    names = [f"r/benchmarks/pretrain/{name}.tsv" for name in ["bert-base"] * 10]
    jobs = [
        SimpleNamespace(jobid=i, input=[], output=[], log=[], benchmark=name)
        for i, name in enumerate(names)
    ]
    lines = progress.Lines(logging.Formatter(), dag_of(jobs), settings, None)
    lines.finished |= {0, 1}
    monkeypatch.setattr(progress.time, "monotonic", lambda: lines.start + 120)
    assert lines.time_left() == "8 min left"
