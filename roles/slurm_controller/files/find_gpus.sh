#!/bin/sh
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# find_gpus.sh DETECTION NODE
# Print the GPUs that slurmd of this machine finds, of those that NODE, its line of slurm.conf, says. It reads files of its own, starts nothing and moves no process.
set -eu
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
echo 'CgroupPlugin=disabled' >"$folder/cgroup.conf"
echo "AutoDetect=$1" >"$folder/gres.conf"
cat >"$folder/slurm.conf" <<END
ClusterName=gpus
SlurmctldHost=localhost
SlurmdSpoolDir=$folder
GresTypes=gpu
ProctrackType=proctrack/linuxproc
$2
END
# The library may wait for a GPU that does not answer, or end slurmd. Where slurmd cannot tell, the node keeps the promise of the inventory.
timeout 100 slurmd -G -f "$folder/slurm.conf" 2>&1 || echo "slurmd -G ended with $?"
