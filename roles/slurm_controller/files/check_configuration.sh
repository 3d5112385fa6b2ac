#!/bin/sh
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# check_configuration.sh DAEMON FOLDER SECONDS
# Let the installed slurmctld or slurmdbd read the files in FOLDER as if they were in /etc/slurm, and print its errors. Ends with 0 when it takes them, with 1 when not.
# slurmdbd has an option for that, which reads the file and asks the database; the rest it looks at when it starts. So it starts, too, as slurmctld does: in namespaces
# of their own, without a network, without the processes of the machine and without the database, with state, logs and sockets that vanish with them.
set -eu
if [ "${4:-}" != inside ]; then
  [ "$1" = slurmctld ] && apart='--net --pid --fork --kill-child --mount-proc' || apart=
  # shellcheck disable=SC2086 # These are several words.
  exec unshare --mount $apart -- "$0" "$1" "$2" "$3" inside
fi
candidate=$2 seconds=$3 scratch=/run/slurm-check expected=

over_the_configuration() {
  mkdir -p "$scratch"
  mount -t tmpfs -o mode=0755 tmpfs "$scratch"
  cp -a /etc/slurm "$scratch/etc"
  # Not the folder itself, which only root can open.
  cp -a "$candidate"/* "$scratch/etc"
  mount --bind "$scratch/etc" /etc/slurm
}

# With AuthType=auth/slurm a daemon replaces the socket that it finds in its folder, through which programs of the machine ask the one that runs.
sockets_of_their_own() {
  user=$(sed -n -E 's/^SlurmUser=//Ip' "/etc/slurm/$1.conf")
  for folder in /run/slurmctld /run/slurmdbd; do
    mkdir -p "$folder"
    mount -t tmpfs -o mode=0755 tmpfs "$folder"
    # A user that there is not is refused by the daemon.
    chown "$user" "$folder" 2>/dev/null || true
  done
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

# It tells nobody but its log how far it is.
wait_for() {
  waited=0
  until grep -qs "$1" "$scratch/out" || ! kill -0 "$2" 2>/dev/null; do
    [ "$waited" -lt "$((seconds * 5))" ] || break
    sleep 0.2
    waited=$((waited + 1))
  done
}

run_slurmctld() {
  install -d -m 0755 -o "$user" "$scratch/state" 2>/dev/null || true
  slurmctld -D -c >"$scratch/out" 2>&1 &
  wait_for "$accepted" "$!"
}

# Plugins that slurmctld never loads, because only slurmd needs them. All machines have them from the same package.
plugins_of_the_nodes() {
  grep -Eiq '^PluginDir=' "$candidate/slurm.conf" && return
  sed -n -E 's/^(ProctrackType|TaskPlugin|JobAcctGatherType|JobContainerType|CgroupPlugin|MpiDefault)=(.*)/\1 \2/Ip' "$candidate"/slurm.conf "$candidate"/cgroup.conf |
    while read -r key words; do
      for word in $(echo "$words" | tr ',' ' '); do
        case $key:$word in *[nN]one | *:autodetect | *:disabled) continue ;; [mM]*:*) file=mpi_$word ;; *) file=$(echo "$word" | tr / _) ;; esac
        set -- /usr/lib/*/slurm-wlm/"$file".so
        [ -e "$1" ] || echo "fatal: slurmd has no plugin for $key=$word"
      done
    done
}

run_slurmdbd() {
  accepted='^Slurm Database'
  timeout "$seconds" slurmdbd -D -u >"$scratch/out" 2>&1 || true
  grep -q "$accepted" "$scratch/out" || return 0
  accepted='mysql_real_connect failed' expected='mysql_real_connect failed|'
  sed -i -E '/^(PidFile|LogFile)=/Id' /etc/slurm/slurmdbd.conf
  echo "PidFile=$scratch/slurmdbd.pid" >>/etc/slurm/slurmdbd.conf
  mount -t tmpfs tmpfs /run/mysqld
  unshare --net --pid --fork --kill-child --mount-proc -- slurmdbd -D >>"$scratch/out" 2>&1 &
  wait_for "$accepted" "$!"
  kill "$!" 2>/dev/null || true
}

# slurmdbd ends when it is to run on another machine, but looks at that last.
host_of_slurmdbd() {
  for key in DbdHost DbdBackupHost; do
    case $(sed -n -E "s/^$key=//Ip" /etc/slurm/slurmdbd.conf) in localhost | "$(hostname)" | "$(hostname -s)") return ;; esac
  done
  echo "fatal: slurmdbd runs on the machine that DbdHost names, and this one is $(hostname)"
}

# Without state and mail there are errors that say nothing of the configuration.
print_errors() {
  sed -n -E 's/^(slurm(ctld|dbd): |\[[^]]*\] )+((error|fatal): )/\3/p' "$scratch/out" |
    grep -Ev "${expected}state (save )?file|MailProg|plugstack\.conf|High latency|must be up when starting" | awk '!seen[$0]++'
}

mount --make-rprivate /
over_the_configuration
if [ "$1" = slurmdbd ]; then
  sockets_of_their_own slurmdbd
  run_slurmdbd
  more=$(host_of_slurmdbd)
else
  accepted='Running as primary controller'
  sockets_of_their_own slurm
  apart_from_the_cluster
  run_slurmctld
  more=$(plugins_of_the_nodes)
fi
grep -q "$accepted" "$scratch/out" && rc=0 || rc=1
errors=$(print_errors || true)
if [ -z "$errors" ] && [ "$rc" != 0 ]; then
  errors=$(tail -n 3 "$scratch/out")
fi
[ -z "$more" ] || rc=1
printf '%s\n' "$errors" "$more" | grep . || true
exit "$rc"
