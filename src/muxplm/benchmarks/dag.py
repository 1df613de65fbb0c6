"""What a finished run cost, by stage, from the figures that Snakemake wrote beside each job."""

import csv
from collections import defaultdict
from pathlib import Path

import pandas
from snakemake.benchmark import BENCHMARK_INTERVAL, BENCHMARK_INTERVAL_SHORT

from muxplm.dryrun import named
from muxplm.files import DataError, read_json, write_json
from muxplm.stages import STAGES
from muxplm.trained import RUN


def run_benchmark(output: str, results: str, than: str | None, cores: int):
    """Writes the figures of the run in the folder `results` to `output` and prints them.

    than: the folder of another run, whose figures stand beside. DataError if a folder holds no run.
    """
    runs = {"run": summary(results, cores)} | ({"than": summary(than, cores)} if than else {})
    write_json(output, runs)
    print(report(runs))


def summary(results: str, cores: int) -> dict:
    """By stage the jobs, their core-seconds and the longest; how much of the cores a run kept busy.

    Of a training that was stopped and went on, all parts count. The run is taken to last from the first
    job's start to the last one's end, so `wall_s` and `busy` are of use only if it was not interrupted.
    """
    jobs = [
        job for path in sorted(Path(results, "benchmarks").rglob("*.tsv")) for job in read(path)
    ]
    if not jobs:
        raise DataError(f"{results}/benchmarks has no job's figures: run the workflow there first")
    add_earlier_parts(jobs, results)
    by_stage = pandas.DataFrame(jobs).groupby("stage")
    order = [stage for stage in STAGES if stage in by_stage.groups]
    frame = by_stage.agg(jobs=("core_s", "size"), core_s=("core_s", "sum"), longest_s=("s", "max"))
    first, last = min(job["start"] for job in jobs), max(job["end"] for job in jobs)
    total = sum(job["core_s"] for job in jobs)
    return {
        "stages": frame.loc[order].reset_index().to_dict("records"),
        "core_s": total,
        "wall_s": last - first,
        "busy": total / (cores * (last - first)),
        "cores": cores,
    }


def read(path: Path) -> list[dict]:
    """A job's seconds, core-seconds, start and end; nothing of a file that is not a job's figures."""
    stage, name = named(str(path.absolute()))
    if stage not in STAGES:
        return []
    with path.open(newline="") as file:
        row = next(csv.DictReader(file, delimiter="\t"), {})
    try:
        seconds, core = float(row["s"]), float(row["cpu_time"])
    except (KeyError, ValueError):
        return []
    end = path.stat().st_mtime
    core = core * seconds / sampled(seconds) if core else seconds  # 0: too short for psutil
    times = {"s": seconds, "core_s": core, "start": end - seconds, "end": end}
    return [{"stage": stage, "model": name.split("/")[0], **times}]


def sampled(seconds: float) -> float:
    """How much of a job Snakemake's figure of its processor time covers.

    Snakemake looks every half second, 30 times, and then every 30 s: up to 30 s at a job's end are in
    no sample, so a figure is scaled from what it covers to the whole.
    """
    often = BENCHMARK_INTERVAL * BENCHMARK_INTERVAL_SHORT
    looks = max(0.0, seconds - often) // BENCHMARK_INTERVAL
    return min(seconds, often + looks * BENCHMARK_INTERVAL)


def add_earlier_parts(jobs: list[dict], results: str):
    """What Snakemake's figures of trainings lack: they are of a job's last start alone.

    run.json beside the weights has the seconds of a whole training. Where a model's sum to more than its
    jobs of that stage took, these are scaled up to it.
    """
    of_model, trained = defaultdict(list), defaultdict(float)
    for job in jobs:
        of_model[job["stage"], job["model"]].append(job)
    for run in map(read_json, Path(results).rglob(RUN)):
        if "seconds" in run:
            trained[run["stage"], run["model"]] += run["seconds"]
    for key, own in of_model.items():
        factor = max(1.0, trained[key] / sum(job["s"] for job in own))
        for job in own:
            job["s"], job["core_s"] = job["s"] * factor, job["core_s"] * factor


def report(runs: dict) -> str:
    """A Markdown table, stages in the order of a run."""
    run, than = runs["run"], runs.get("than")
    before = {row["stage"]: row["core_s"] for row in than["stages"]} if than else {}
    rows = [*run["stages"], {"stage": "all", "jobs": sum(r["jobs"] for r in run["stages"])} | run]
    before["all"] = than["core_s"] if than else None
    lines = []
    for row in rows:
        line = {
            "stage": row["stage"],
            "jobs": row["jobs"],
            "core-seconds": f"{row['core_s']:.0f}",
            "longest job, s": f"{row['longest_s']:.0f}" if "longest_s" in row else "",
        }
        if than:
            other = before.get(row["stage"])
            line["before"] = f"{other:.0f}" if other else "–"
            line["ratio"] = f"{row['core_s'] / other:.2f}" if other else "–"
        lines.append(line)
    table = pandas.DataFrame(lines).to_markdown(index=False, disable_numparse=True)
    return (
        f"{table}\n\n{run['wall_s']:.0f} s from the first job's start to the last one's end, in which "
        f"{run['busy']:.0%} of {run['cores']} cores were busy."
    )
