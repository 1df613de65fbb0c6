"""The workflow through a SLURM that loses jobs, nodes and its head, beside a run without SLURM.

    python tests/cluster/faults.py     # beside a cluster of tests/cluster/slurm.sh

Each fault has to have happened, and the weights and tables have to be the same bytes:

- the primings run out of memory, and are submitted again with more (JobState=OUT_OF_MEMORY or FAILED);
- a pre-training outlasts its time limit again and again; it goes on only if SIGTERM made a checkpoint,
  since it saves none on its own (TIMEOUT);
- a node dies under a fine-tuning (NODE_FAIL), another is drained under one, and both come back;
- a fine-tuning is put back into the queue by an urgent job that takes its node (PREEMPTED);
- Snakemake is killed while its jobs run, and started again after `snakemake --unlock`.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from kills import Run

HOME = Path("/run/muxplm-slurm")  # of tests/cluster/slurm.sh
NEVER = 10**6  # steps between checkpoints
CHANGES = {
    "families": ["bert", "mux-bert"],
    "sizes": ["base"],
    "instances": [1, 2],
    "tasks": ["sst2"],
    "training_seeds": [1, 2, 3],
    "bundle": "cell",
    "overrides": {"bert-base": {"pretrain": {"steps": 14_000, "save_every": NEVER}}},
    # The GPUs are the cluster's pretence.
    "resources": {"prime": {"mem_mb": 450}, "pretrain": {"runtime": 1}, "finetune": {"gpu": 1}},
}
TABLE = "table9"
THROUGH_SLURM = [
    *("--workflow-profile", "workflow/profiles/slurm", "--retries", "5", "--latency-wait", "5"),
    *("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "5"),
]
LIMIT = 15 * 60


def main():
    folder = Path(tempfile.mkdtemp(prefix="faults-")).resolve()
    alone = Run(folder / "alone", CHANGES)
    through = Run(folder / "through", CHANGES, THROUGH_SLURM)
    for run in (alone, through):
        run.targets = [run.settings.paths.table(TABLE, "tex")]
    start = time.monotonic()
    alone.start()
    assert alone.process.wait() == 0, f"failed without SLURM: {alone.copy.folder}/said.log"
    print(f"faults: on this machine alone {time.monotonic() - start:.0f} s", flush=True)
    record = HOME / "log/completed.txt"
    earlier = len(record.read_text().splitlines()) if record.exists() else 0
    start = time.monotonic()
    done = disturb(through)
    ended = Counter(
        word.removeprefix("JobState=")
        for line in record.read_text().splitlines()[earlier:]
        for word in line.split()
        if word.startswith("JobState=")
    )
    seconds = time.monotonic() - start
    print(f"faults: {seconds:.0f} s, jobs by their end: {dict(ended)}", flush=True)
    assert done == {*FAULTS}, f"faults that never came: {[f.__name__ for f in {*FAULTS} - done]}"
    assert ended["TIMEOUT"] and ended["NODE_FAIL"], "no job met its time limit, or none a dead node"
    assert out_of_memory(), "no job ran out of memory"
    expected, found = alone.results(), through.results()
    differing = [n for n in sorted({*expected, *found}) if expected.get(n) != found.get(n)]
    assert not differing, f"not the same bytes: {differing}"
    print(f"faults: {len(found)} files are the same bytes as without SLURM", flush=True)
    shutil.rmtree(folder)


def disturb(run: Run) -> set:
    """Runs to the end; each fault comes once, as soon as it can. Returns those that came."""
    start, done = time.monotonic(), set()
    run.start()
    try:
        while (code := run.process.poll()) != 0:
            assert time.monotonic() < start + LIMIT, f"no end: {run.copy.folder}/said.log"
            if code is not None:
                assert code == -signal.SIGKILL, f"failed: {run.copy.folder}/said.log"
                run.unlock()
                run.start()
            for fault in FAULTS:
                if fault not in done and fault(run):
                    done.add(fault)
                    print(f"faults: {fault.__name__}, {time.monotonic() - start:.0f} s", flush=True)
            time.sleep(0.5)
    finally:
        if run.process.poll() is None:
            os.killpg(run.process.pid, signal.SIGKILL)
    return done


# --- Faults: each says whether it could happen now ----------------------------------------------


def kill_node(run: Run) -> bool:
    """SIGKILL to a node's daemon and all that it runs; the node comes back when SLURM has noticed."""
    node, job = next(iter(running("finetune")), (None, None))
    if node is None:
        return False
    assert "gpu:1" in asked("scontrol", "show", "job", job), f"job {job} asked for no GPU"
    for process in [p for p in psutil.process_iter() if is_daemon(p, node)] + steps(job):
        with suppress(psutil.Error):
            for one in [process, *process.children(recursive=True)]:
                one.kill()
    wait_for(lambda: state(node).startswith("down"), f"{node} is not missed")
    subprocess.run(["slurmd", "-f", HOME / "etc/slurm.conf", "-N", node], check=True)
    wait_for(lambda: state(node) in ("idle", "mixed", "allocated"), f"{node} does not return")
    return True


def drain_node(run: Run) -> bool:
    """No new job for a node that has one, for a few seconds."""
    node, _ = next(iter(running("finetune")), (None, None))
    if node is None:
        return False
    update = ["scontrol", "update", f"nodename={node}"]
    subprocess.run([*update, "state=drain", "reason=test"], check=True)
    time.sleep(5)
    subprocess.run([*update, "state=resume"], check=True)
    return True


def preempt(run: Run) -> bool:
    """A job of the other partition that needs all of a node where a fine-tuning runs."""
    node, job = next(iter(running("finetune")), (None, None))
    if node is None:
        return False
    urgent = ["--partition=urgent", "--exclusive", "--nodelist", node, "--output=/dev/null"]
    asked("sbatch", *urgent, "--wrap=sleep 1")
    wait_for(
        lambda: "Restarts=1" in asked("scontrol", "show", "job", job), f"{job} is not preempted"
    )
    return True


def kill_head(run: Run) -> bool:
    """While a job runs, which runs on."""
    if not running("pretrain"):
        return False
    run.process.kill()
    run.process.wait()
    return True


FAULTS = (kill_node, drain_node, preempt, kill_head)


# --- SLURM's view -------------------------------------------------------------------------------


def running(stage: str) -> list[tuple[str, str]]:
    """Node and number of the jobs of a stage that run. Snakemake says the rule in the comment."""
    said = asked("squeue", "--noheader", "--states=running", "--format=%N|%i|%k")
    jobs = [line.split("|") for line in said.splitlines()]
    return [(node, number) for node, number, rule in jobs if stage in rule]


def state(node: str) -> str:
    return asked("sinfo", "--noheader", "--nodes", node, "--format=%T").strip().rstrip("*")


def is_daemon(process: psutil.Process, node: str) -> bool:
    with suppress(psutil.Error):
        command = process.cmdline()
        return bool(command) and command[0].endswith("slurmd") and command[-1] == node
    return False


def steps(job: str) -> list[psutil.Process]:
    """What runs a job's steps on its node."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith(f"slurmstepd: [{job}."):
                found.append(process)
    return found


def out_of_memory() -> bool:
    return any("exceeded memory limit" in log.read_text() for log in (HOME / "log").glob("slurmd*"))


def asked(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def wait_for(there, otherwise: str, seconds=90):
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, otherwise
        time.sleep(0.5)


if __name__ == "__main__":
    os.environ["PATH"] += ":/usr/sbin"
    main()
