#!/usr/bin/env bash
# one-node-slurm.sh up|down DIR: a real one-node SLURM with all its state under DIR, for the tests
#   GPUS=1   how many pretend GPUs (at most 4)     DBD=1   with slurmdbd + MariaDB so that sacct works
# After `up`:  export PATH=DIR/bin:$PATH
# Needs: apt-get install --no-install-recommends slurm-wlm munge  [slurmdbd mariadb-server-core mariadb-client-core]
set -euo pipefail
cmd=$1; mkdir -p "$2"; D=$(cd "$2" && pwd); GPUS=${GPUS:-1}; DBD=${DBD:-0}
H=$(hostname -s); ME=$(id -un); export SLURM_CONF=$D/slurm.conf
ports() { python3 -c 'import socket,sys
s=[socket.socket() for _ in range(3)]
[x.bind(("",0)) for x in s]; print(*[x.getsockname()[1] for x in s])'; }
case $cmd in
up)
  mkdir -p "$D"/{state,spool,log,run,bin,munge}; chmod 755 "$D" "$D/munge"
  (umask 077; head -c 128 /dev/urandom > "$D/munge/key")
  munged --key-file="$D/munge/key" --socket="$D/munge/sock" --pid-file="$D/munge/pid" \
         --log-file="$D/munge/log" --seed-file="$D/munge/seed" --force 2>"$D/munge/err"
  read -r P1 P2 P3 < <(ports)
  ACCT="AccountingStorageType=accounting_storage/none"
  if [ "$DBD" = 1 ]; then
    mariadb-install-db --no-defaults --datadir="$D/db" --auth-root-authentication-method=normal --skip-test-db --user="$ME" >"$D/log/db-install.log" 2>&1
    mariadbd --no-defaults --datadir="$D/db" --socket="$D/run/db.sock" --pid-file="$D/run/db.pid" --skip-networking \
             --user="$ME" --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 >"$D/log/mariadbd.log" 2>&1 &
    for _ in $(seq 100); do mariadb -S "$D/run/db.sock" -u root -e "create database if not exists acct" 2>/dev/null && break; sleep 0.1; done
    cat > "$D/slurmdbd.conf" <<C
AuthType=auth/munge
AuthInfo=socket=$D/munge/sock
DbdHost=localhost
DbdPort=$P3
SlurmUser=$ME
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=acct
LogFile=$D/log/slurmdbd.log
PidFile=$D/run/slurmdbd.pid
C
    chmod 600 "$D/slurmdbd.conf"
    # libmariadb looks for the socket of "localhost" here
    MYSQL_UNIX_PORT=$D/run/db.sock slurmdbd
    for _ in $(seq 100); do (exec 3<>/dev/tcp/localhost/$P3) 2>/dev/null && break; sleep 0.1; done
    ACCT="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort=$P3
AccountingStoragePass=$D/munge/sock
AccountingStorageTRES=gres/gpu"
  fi
  cat > "$D/slurm.conf" <<C
ClusterName=test
SlurmctldHost=$H(127.0.0.1)
SlurmctldPort=$P1
SlurmdPort=$P2
AuthType=auth/munge
AuthInfo=socket=$D/munge/sock
SlurmUser=$ME
SlurmdUser=$ME
StateSaveLocation=$D/state
SlurmdSpoolDir=$D/spool
SlurmctldPidFile=$D/run/slurmctld.pid
SlurmdPidFile=$D/run/slurmd.pid
SlurmctldLogFile=$D/log/slurmctld.log
SlurmdLogFile=$D/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
$ACCT
ReturnToService=2
KillWait=5
MinJobAge=600
MaxArraySize=2001
GresTypes=gpu
${EXTRA:-}
NodeName=$H NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(awk '/MemTotal/{print int($2/1024*0.9)}' /proc/meminfo)$([ "$GPUS" -gt 0 ] && echo " Gres=gpu:$GPUS") State=UNKNOWN
${PARTS:-PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE DefMemPerCPU=500 State=UP}
C
  # a pretend GPU needs a device node to its name; any will do, as no cgroup guards it
  dev=(/dev/null /dev/zero /dev/full /dev/random); : > "$D/gres.conf"
  for ((i=0; i<GPUS; i++)); do echo "Name=gpu File=${dev[i]} Flags=nvidia_gpu_env" >> "$D/gres.conf"; done
  # Snakemake's jobstep plugin drops SLURM_CONF before the inner srun: wrappers put it back
  for t in srun sbatch squeue scancel scontrol sinfo sacct sacctmgr; do
    p=$(PATH=/usr/bin:/usr/local/bin command -v $t) || continue
    [ "$t" = sacct ] && [ "$DBD" != 1 ] && continue
    printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' "$D/slurm.conf" "$p" > "$D/bin/$t"; chmod +x "$D/bin/$t"; done
  slurmctld -f "$D/slurm.conf" 2>>"$D/log/start.err"; slurmd -f "$D/slurm.conf" 2>>"$D/log/start.err"
  for _ in $(seq 50); do timeout 5 sinfo -h -o %T 2>/dev/null | grep -q idle && { echo "export PATH=$D/bin:\$PATH"; exit 0; }; sleep 0.2; done
  echo "cluster did not come up; see $D/log" >&2; grep -h -iE "error|fatal" "$D"/log/*.log | tail -n 5 >&2; exit 1;;
down)
  timeout 10 scancel -u "$ME" 2>/dev/null || true
  for _ in $(seq 20); do [ -z "$(timeout 5 squeue -h 2>/dev/null)" ] && break; sleep 0.3; done
  for p in run/slurmd.pid run/slurmctld.pid run/slurmdbd.pid run/db.pid munge/pid; do
    [ -s "$D/$p" ] || continue; n=$(cat "$D/$p"); kill "$n" 2>/dev/null || continue
    for _ in $(seq 20); do kill -0 "$n" 2>/dev/null || continue 2; sleep 0.1; done; kill -9 "$n" 2>/dev/null || true; done;;
esac
