#!/bin/sh
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Run a command where /dev is that of a container: a few nodes, none of a loop device. Usage: private_dev COMMAND…
set -e
mount --make-rprivate /
folder=$(mktemp -d)
mount -t tmpfs -o mode=0755 tmpfs "$folder"
mkdir "$folder/shm" "$folder/pts" "$folder/net"
for node in null zero full random urandom tty loop-control net/tun; do
  cp -a "/dev/$node" "$folder/$node"
done
ln -s /proc/self/fd "$folder/fd"
mount --move "$folder" /dev
rmdir "$folder"
exec "$@"
