#!/usr/bin/env bash
# Table 1 of the smoke preset through a real SLURM of two nodes that keeps accounts, which is gone again
# afterwards; then, without accounts, a training on both nodes and a run whose jobs, nodes and head are
# lost on the way (faults.py). FAULTS=0 leaves that out.
# For Debian 12, as root. The profile is the one that is shipped; a small cluster of one's own may be
# asked more often.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH="$PWD/.venv/bin:$PATH:/usr/sbin"

packages=(
    slurmctld slurmd slurm-client munge slurm-wlm-basic-plugins procps
    slurmdbd slurm-wlm-mysql-plugin mariadb-server-core mariadb-client-core
)
cluster=tests/cluster/slurm.sh
config=config/smoke.yaml
table=results/smoke/tables/table1.tex
run=(
    snakemake --workflow-profile workflow/profiles/slurm
    --slurm-init-seconds-before-status-checks 5
    --retries 0 --latency-wait 5
    --configfile "$config" --forceall -- "$table"
)

daemons() { # zombies apart
    ps -eo stat=,pid=,comm= | awk '$1 !~ /^Z/ && $3 ~ /^(munged|mariadbd|slurm.*d)$/ { print $2, $3 }'
}

install_packages() {
    local programs=(munged slurmctld slurmd slurmdbd sbatch mariadbd mariadb-install-db mariadb ps)
    type -P "${programs[@]}" >/dev/null && return # all of them
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "make test-cluster needs, as root: apt-get install ${packages[*]}" >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${packages[@]}" \
        >/dev/null
}

finish() {
    status=$?
    trap '' INT TERM HUP # nothing stops the sweeping
    if [ -n "${pid:-}" ] && kill -0 "$pid" 2>/dev/null; then
        kill -s INT "$pid" # Snakemake cancels its jobs at once, but ends with its next look at them
        for _ in $(seq 150); do kill -0 "$pid" 2>/dev/null && sleep 0.2 || break; done
        if kill -s KILL -- "-$pid" 2>/dev/null; then
            snakemake --configfile "$config" --unlock >/dev/null 2>&1 || true
        fi
    fi
    [ -z "${shown:-}" ] || wait "$shown" || true
    "$cluster" stop || status=1
    left=$(daemons | grep -vxFf "$scratch/daemons" || true)
    if [ -n "$left" ]; then
        echo "test-cluster: left running: $left" >&2
        status=1
    fi
    rm -rf "$scratch"
    exit "$status"
}

[ "$(id -u)" = 0 ] || { echo "make test-cluster starts SLURM's daemons: run it as root" >&2; exit 1; }
install_packages
scratch=$(mktemp -d)
daemons >"$scratch/daemons" # some systems start munge on installation
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
"$cluster" start accounts

# In the background, in a process group of its own: a signal comes here at once, and only from here
# to Snakemake. The limit is for a cluster that never answers.
log=$scratch/log
touch "$log"
set -m
timeout --foreground --signal=INT --kill-after=60 30m "${run[@]}" </dev/null >"$log" 2>&1 &
pid=$!
set +m
tail --pid="$pid" --lines=+1 --follow "$log" &
shown=$!
wait "$pid" && ok=0 || ok=$?
wait "$shown"
[ "$ok" = 0 ] || exit "$ok"

submitted=$(grep -c 'has been submitted with SLURM jobid' "$log" || true)
completed=$(sacct --allocations --noheader --format=state | grep -c COMPLETED || true)
if [ "$submitted" = 0 ] || [ "$submitted" != "$completed" ]; then
    echo "test-cluster: $submitted jobs submitted, $completed completed by SLURM" >&2
    exit 1
fi
python - "$config" "$table" <<'PYTHON'
import csv
import sys
from pathlib import Path

from muxplm import config, experiments

settings, table = config.load([sys.argv[1]]), Path(sys.argv[2])
expected = {variant.name for variant in experiments.TABLES["table1"].variants(settings.axes)}
with open(table.with_suffix(".csv")) as file:
    found = {row["model"] for row in csv.DictReader(file)}
if found != expected or not table.stat().st_size:
    sys.exit(f"test-cluster: {table} should hold {sorted(expected)} and holds {sorted(found)}")
print(f"test-cluster: {len(found)} rows in {table}")
PYTHON
echo "test-cluster: $completed jobs through SLURM"
[ "${FAULTS:-1}" != 0 ] || exit 0
"$cluster" stop
"$cluster" start
python tests/cluster/two_nodes.py
python tests/cluster/faults.py
