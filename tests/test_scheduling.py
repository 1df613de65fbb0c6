"""How often Snakemake's scheduler wakes while jobs wait for a core."""

import re
import subprocess
import sys

import pytest

SNAKEFILE = """
import threading

from muxplm import scheduling

made = []


class Timer(threading.Timer):
    def __init__(self, *how):
        made.append(how)
        super().__init__(*how)


threading.Timer = Timer


onstart:
    LIFTED


onsuccess:
    print("timers:", len(made))


rule all:
    input:
        expand("{i}", i=range(6)),


rule one:
    output:
        "{i}",
    shell:
        "touch {output}"
"""
LIFTED = "scheduling.wake_for_jobs_alone(workflow.scheduler)"


def timers(folder, change: str, *flags: str) -> int:
    """How many a run of six jobs on one core sets."""
    (folder / "Snakefile").write_text(SNAKEFILE.replace("LIFTED", change))
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--scheduler", "greedy", *flags]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(re.search(r"timers: (\d+)", done.stdout)[1])


@pytest.mark.parametrize(
    ("change", "flags", "woken"),
    [
        (LIFTED, (), False),
        ("pass", (), True),  # should this fail, Snakemake is mended and muxplm/scheduling.py can go
        (LIFTED, ("--max-jobs-per-timespan", "50/1s"), True),  # what a user asks for stays
    ],
)
def test_the_scheduler_sets_timers_only_for_a_limit_of_the_users(change, flags, woken, tmp_path):
    assert (timers(tmp_path, change, *flags) > 0) == woken
