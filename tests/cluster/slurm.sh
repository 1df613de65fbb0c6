#!/usr/bin/env bash
# slurm.sh start [accounts]|stop|status: a SLURM of two nodes on this machine, reachable from nowhere else.
# With accounts: slurmdbd and MariaDB keep them, and sacct answers.
#
# For root, without systemd. Everything lies under one folder, apart from the links in /etc/slurm:
# the plugin's job steps drop SLURM_CONF, so the configuration has to be where SLURM looks for it.
set -euo pipefail
unset SLURM_CONF

home=/run/muxplm-slurm # munge wants its parents open to all: no private folder, no /tmp
conf=(slurm gres cgroup slurmdbd)
nodes=2 cpus=2 memory=8000
port=17817 # and the ones after it: nodes, accounts, their database

fail() {
    echo "slurm.sh: $*" >&2
    exit 1
}

configure() {
    mkdir -p "$home"/{etc,log,run,state,spool/n1,spool/n2,nocgroup} /etc/slurm
    local storage=none
    [ -z "$accounts" ] || storage=slurmdbd
    (umask 077 && head -c 512 /dev/urandom >"$home/etc/munge.key")

    cat >"$home/etc/slurm.conf" <<CONF
ClusterName=muxplm
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=$port
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A job that goes back into the queue waits as long as a credential of its lasts.
AuthInfo=socket=$home/run/munge.socket,cred_expire=10
CredType=cred/munge

SlurmctldPidFile=$home/run/slurmctld.pid
SlurmdPidFile=$home/run/slurmd.%n.pid
SlurmctldLogFile=$home/log/slurmctld.log
SlurmdLogFile=$home/log/slurmd.%n.log
StateSaveLocation=$home/state
SlurmdSpoolDir=$home/spool/%n
AccountingStorageType=accounting_storage/$storage
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((port + nodes + 1))
AccountingStoragePass=$home/run/munge.socket
# What ran, with or without accounts.
JobCompType=jobcomp/filetxt
JobCompLoc=$home/log/completed.txt

# No cgroups: a container may have none. Memory is watched by polling instead.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill

SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0
SwitchType=switch/none
MpiDefault=none
PropagateResourceLimits=NONE
ReturnToService=2
KillWait=10
SlurmdTimeout=20
MinJobAge=300

# The nodes may promise more than the machine has; the GPUs are pretended.
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=n[1-$nodes] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + nodes))] CPUs=$cpus CoresPerSocket=$cpus RealMemory=$memory Gres=gpu:2
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=30 DefMemPerCPU=500 PriorityTier=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# Its jobs put those of main back into the queue.
PartitionName=urgent Nodes=ALL MaxTime=INFINITE DefaultTime=1 DefMemPerCPU=500 PriorityTier=2
CONF
    (umask 077 && cat >"$home/etc/slurmdbd.conf") <<CONF
AuthType=auth/munge
AuthInfo=socket=$home/run/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$((port + nodes + 1))
CommunicationParameters=NoInAddrAny
SlurmUser=root
PidFile=$home/run/slurmdbd.pid
LogFile=$home/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((port + nodes + 2))
StorageUser=slurm
StoragePass=$(head -c 12 /dev/urandom | base64 | tr -d '+/=')
StorageLoc=accounts
CONF

    printf '%s\n' 'AutoDetect=off' "NodeName=n[1-$nodes] Name=gpu File=/dev/null,/dev/zero" \
        >"$home/etc/gres.conf"
    # Every slurmd looks for a cgroup hierarchy, even one that uses none: show it an empty folder.
    printf '%s\n' 'CgroupPlugin=cgroup/v1' "CgroupMountpoint=$home/nocgroup" 'CgroupAutomount=no' \
        >"$home/etc/cgroup.conf"
    for name in "${conf[@]}"; do ln -s "$home/etc/$name.conf" "/etc/slurm/$name.conf"; done
}

start_accounts() {
    local secret
    secret=$(sed -n 's/^StoragePass=//p' "$home/etc/slurmdbd.conf")
    mariadb-install-db --no-defaults --user=root --datadir="$home/db" --skip-test-db >"$home/log/db.log" 2>&1
    mariadbd --no-defaults --user=root --datadir="$home/db" --socket="$home/run/db.socket" \
        --pid-file="$home/run/db.pid" --bind-address=127.0.0.1 --port=$((port + nodes + 2)) \
        --skip-name-resolve </dev/null >>"$home/log/db.log" 2>&1 &
    for _ in $(seq 100); do
        mariadb --no-defaults --socket="$home/run/db.socket" 2>/dev/null <<SQL && break
CREATE DATABASE accounts;
CREATE USER slurm@127.0.0.1 IDENTIFIED BY '$secret';
GRANT ALL ON accounts.* TO slurm@127.0.0.1;
SQL
        sleep 0.2
    done
    slurmdbd
    for _ in $(seq 100); do
        sacctmgr --immediate add cluster muxplm >/dev/null 2>&1 && return
        sleep 0.2
    done
    tail -n 5 "$home"/log/{db,slurmdbd}.log >&2
    fail "no accounts"
}

# Our own processes, zombies apart (a container's PID 1 may never reap them). The daemons name our
# folder on their command lines. slurmdbd and their children do not, but start() refuses to run
# beside another SLURM: while the folder exists, they are ours.
ours() {
    [ -d "$home" ] || return 0
    ps -eo pid=,stat=,args= | awk -v home="$home/" '
        $2 ~ /^Z/ { next }
        $3 ~ /(munged|slurmctld|slurmd|mariadbd)$/ && index($0, home) { print $1 }
        $3 ~ /slurmdbd$/ { print $1 }
        /[s]lurmstepd: |: [s]lurmscriptd/ { print $1 }'
}

gone() { # gone SECONDS COMMAND...: wait until the command prints nothing
    local deadline=$((SECONDS + $1))
    while [ -n "$("${@:2}")" ]; do
        ((SECONDS < deadline)) || return 1
        sleep 0.2
    done
}

start() {
    [ "$(id -u)" = 0 ] || fail "needs root"
    [[ "$(getent ahostsv4 "$(hostname)" | awk '{ print $1 }')" =~ ^(127\.[0-9.]+[[:space:]]*)+$ ]] ||
        fail "$(hostname) must resolve to 127.0.0.1 (/etc/hosts): nothing may leave this machine"
    stop # sweeps up after a run that was killed
    ps -eo stat=,comm= | awk '$1 !~ /^Z/ && $2 ~ /^slurm(ctld|dbd|d)$/ { exit 1 }' ||
        fail "another SLURM runs on this machine"
    for name in "${conf[@]}"; do
        [ ! -e "/etc/slurm/$name.conf" ] || fail "there is an /etc/slurm/$name.conf: a real cluster?"
    done
    configure
    munged --key-file="$home/etc/munge.key" --socket="$home/run/munge.socket" \
        --pid-file="$home/run/munged.pid" --seed-file="$home/state/munged.seed" \
        --log-file="$home/log/munged.log"
    [ -z "$accounts" ] || start_accounts
    slurmctld -f "$home/etc/slurm.conf"
    for i in $(seq "$nodes"); do slurmd -f "$home/etc/slurm.conf" -N "n$i"; done
    for _ in $(seq 100); do
        [ "$(sinfo --noheader --states=idle --format=%D 2>/dev/null)" = "$nodes" ] && return
        sleep 0.1
    done
    tail -n 5 "$home"/log/*.log >&2
    fail "the nodes did not come up"
}

stop() {
    # Jobs first: a step outlives the daemon that started it.
    if [ "$(readlink /etc/slurm/slurm.conf)" = "$home/etc/slurm.conf" ] && [ -n "$(ours)" ]; then
        timeout 10 scancel --full --user=root || true
        gone 15 timeout 5 squeue --noheader || true
    fi
    local pid
    for signal in TERM KILL; do
        for pid in $(ours); do kill -s "$signal" "$pid" 2>/dev/null || true; done
        gone 10 ours && break
    done
    for name in "${conf[@]}"; do
        # Links only, and only to our folder.
        [[ "$(readlink "/etc/slurm/$name.conf")" != "$home"/* ]] || rm "/etc/slurm/$name.conf"
    done
    rmdir /etc/slurm 2>/dev/null || true
    [ -z "$(ours)" ] || fail "still running: $(ours | xargs ps -o pid=,args= -p)"
    rm -rf "$home"
}

status() {
    sinfo --Node --long
    squeue
}

accounts=${2:-}
case "$*" in
start | "start accounts" | stop | status) "$1" ;;
*) fail "usage: slurm.sh start [accounts]|stop|status" ;;
esac
