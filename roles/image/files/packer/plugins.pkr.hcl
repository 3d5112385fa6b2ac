# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Packer 1.7 and newer only: `packer init .` fetches these. Packer 1.6 has them built in and does not know this block.
packer {
  required_plugins {
    qemu = {
      version = ">= 1.0.0, < 2.0.0"
      source  = "github.com/hashicorp/qemu"
    }
    ansible = {
      version = ">= 1.0.0, < 2.0.0"
      source  = "github.com/hashicorp/ansible"
    }
  }
}
