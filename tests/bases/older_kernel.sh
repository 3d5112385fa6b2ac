#!/usr/bin/env bash
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Replace the kernel of this system by an older one of the same series, and the package that stands for the newest one by an older stand-in.
set -euo pipefail

export DEBIAN_FRONTEND=noninteractive
newest=$(ls /lib/modules)
series=${newest%"${newest#*.*.}"}
older=''
while read -r kernel; do
  [[ $kernel != "$newest" ]] || break
  older=$kernel
done < <(apt-cache pkgnames "linux-image-$series" | sed -n 's/^linux-image-\([^-]*-cloud-amd64\)$/\1/p' | sort --version-sort)
[[ -n $older ]] || { echo "The archives have no kernel that is older than $newest." >&2; exit 1; }

folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
chmod 0755 "$folder"
mkdir "$folder/DEBIAN"
cat >"$folder/DEBIAN/control" <<END
Package: linux-image-cloud-amd64
Version: 6.0
Architecture: amd64
Maintainer: Nobody <nobody@example.com>
Depends: linux-image-$older
Description: stand-in for an older version
END
dpkg-deb --build "$folder" "$folder/meta.deb"
apt-get --quiet=2 --assume-yes --no-install-recommends --allow-downgrades install "$folder/meta.deb"
apt-get --quiet=2 --assume-yes purge "linux-image-$newest"
[[ $(ls /lib/modules) == "$older" ]]
update-grub
