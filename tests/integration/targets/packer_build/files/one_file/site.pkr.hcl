# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
packer {
  required_plugins {
    qemu = {
      version = ">= 1.0.0"
      source  = "github.com/hashicorp/qemu"
    }
  }
}

variable "output_directory" {
  type = string
}

source "file" "site" {
  content = "required_plugins {"
  target  = "${var.output_directory}/word.txt"
}

build {
  sources = ["source.file.site"]
}
