#!/bin/sh
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# check_configuration.sh DAEMON FOLDER SECONDS
# Let the installed slurmctld or slurmdbd read the files in FOLDER as if they were in /etc/slurm, and print its errors. Ends with 0 when it takes them, with 1 when not.
# slurmdbd has an option for that. slurmctld has none, so it starts in namespaces of its own: without a network, without the processes of the machine, with state,
# logs and sockets that vanish with it.
set -eu
if [ "${4:-}" != inside ]; then
  [ "$1" = slurmctld ] && apart='--net --pid --fork --kill-child --mount-proc' || apart=
  # shellcheck disable=SC2086 # These are several words.
  exec unshare --mount $apart -- "$0" "$1" "$2" "$3" inside
fi
candidate=$2 seconds=$3 scratch=/run/slurm-check

over_the_configuration() {
  mkdir -p "$scratch"
  mount -t tmpfs -o mode=0755 tmpfs "$scratch"
  cp -a /etc/slurm "$scratch/etc"
  # Not the folder itself, which only root can open.
  cp -a "$candidate"/* "$scratch/etc"
  mount --bind "$scratch/etc" /etc/slurm
}

# What belongs to the running controller is out of reach. Programs of the site are not to be run, and the accounting, which would have to answer, is checked by its own
# daemon. slurmctld itself reads the resources of nodes in a cloud, without looking for the device files; only those that a library finds it cannot read.
apart_from_the_cluster() {
  sed -i -E '/^(StateSaveLocation|Slurmctld(PidFile|LogFile|SyslogDebug)|AccountingStorage[A-Za-z]*|JobAcctGatherType|[A-Za-z]*Program|SuspendTime)=/Id' /etc/slurm/slurm.conf
  if grep -Eq ' AutoDetect=(nvml|nvidia)$' /etc/slurm/gres.conf; then
    sed -i -n '/^#/p' /etc/slurm/gres.conf
  else
    sed -i -E 's/^(NodeName=.* State=)UNKNOWN/\1CLOUD/' /etc/slurm/slurm.conf
  fi
  cat >>/etc/slurm/slurm.conf <<END
StateSaveLocation=$scratch/state
SlurmctldPidFile=$scratch/slurmctld.pid
SlurmctldLogFile=$scratch/slurmctld.log
SlurmctldSyslogDebug=quiet
AccountingStorageType=accounting_storage/none
END
  # Addresses for documentation: with none but those of loopback no name and no port is looked up.
  ip link set lo up
  ip address add 192.0.2.254/32 dev lo
  ip address add 2001:db8::254/128 dev lo nodad 2>/dev/null || true
}

run_slurmctld() {
  user=$(sed -n -E 's/^SlurmUser=//Ip' /etc/slurm/slurm.conf)
  install -d -m 0755 -o "$user" "$scratch/state"
  slurmctld -D -c >"$scratch/out" 2>&1 &
  # It tells nobody but its log that it is ready.
  waited=0
  until grep -q 'Running as primary controller' "$scratch/out" || ! kill -0 "$!" 2>/dev/null; do
    [ "$waited" -lt "$((seconds * 5))" ] || break
    sleep 0.2
    waited=$((waited + 1))
  done
}

# Without state and mail there are errors that say nothing of the configuration.
print_errors() {
  sed -n -E 's/^(slurm(ctld|dbd): |\[[^]]*\] )+((error|fatal): )/\3/p' "$scratch/out" |
    grep -Ev 'state (save )?file|MailProg|plugstack\.conf|High latency|must be up when starting' | uniq
}

mount --make-rprivate /
over_the_configuration
if [ "$1" = slurmdbd ]; then
  timeout "$seconds" slurmdbd -D -u >"$scratch/out" 2>&1 || true
  accepted='^Slurm Database'
else
  apart_from_the_cluster
  run_slurmctld
  accepted='Running as primary controller'
fi
grep -q "$accepted" "$scratch/out" && rc=0 || rc=1
errors=$(print_errors || true)
if [ -z "$errors" ] && [ "$rc" != 0 ]; then
  errors=$(tail -n 3 "$scratch/out")
fi
[ -z "$errors" ] || printf '%s\n' "$errors"
exit "$rc"
