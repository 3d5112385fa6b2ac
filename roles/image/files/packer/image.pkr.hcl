# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# One template for all images: everything that differs is a variable. Only options that Packer 1.6.6 has, too.

variable "repo_tot_dir" {
  type        = string
  description = "The folder of this collection; its playbooks provision the image."
}

variable "source_directory" {
  type        = string
  description = "The folder with <image_name>.vars.json, the variables that the playbook gets."
}

variable "build_directory" {
  type        = string
  description = "The folder that the result is made in, unless output_directory says otherwise."
}

variable "ssh_keys_dir" {
  type        = string
  description = "The folder with the key id_ed25519 that logs in to the virtual machine."
}

variable "cloud_init_dir" {
  type        = string
  description = "The folder with user-data, meta-data and apt.sh for the virtual machine."
}

variable "image_name" {
  type        = string
  description = "The name of the image, and of the host that the playbook runs for."
}

variable "vm_name" {
  type        = string
  description = "The name of the file."
}

variable "output_directory" {
  type        = string
  description = "The folder for the result; it must not exist. Empty for a folder with the name of the image in build_directory."
  default     = ""
}

variable "base_image" {
  type        = string
  description = "The path or address of the base image."
}

variable "base_checksum" {
  type        = string
  description = "Its checksum, such as sha256:… with 64 digits."
}

variable "disk_format" {
  type        = string
  description = "qcow2 or raw."
  default     = "qcow2"
}

variable "disk_size" {
  type    = string
  default = "20G"
}

variable "memory" {
  type        = string
  description = "MiB."
  default     = "2048"
}

variable "cpus" {
  type    = string
  default = "2"
}

variable "accelerator" {
  type        = string
  description = "kvm, or tcg for emulation."
  default     = "kvm"
}

variable "cpu_model" {
  type        = string
  description = "host under KVM, max under TCG."
  default     = "host"
}

variable "machine_type" {
  type    = string
  default = "q35"
}

variable "qemu_binary" {
  type    = string
  default = "qemu-system-x86_64"
}

variable "firmware_code" {
  type        = string
  description = "The UEFI firmware; empty for BIOS."
  default     = ""
}

variable "firmware_variables" {
  type        = string
  description = "A copy of the variables of the UEFI firmware that the virtual machine may write to."
  default     = ""
}

variable "serial_log" {
  type        = string
  description = "The file that gets the serial console."
}

variable "monitor" {
  type        = string
  description = "The socket at which QEMU's monitor listens; empty for none."
  default     = ""
}

variable "ssh_username" {
  type    = string
  default = "admin"
}

variable "ssh_timeout" {
  type    = string
  default = "10m"
}

variable "shutdown_timeout" {
  type        = string
  description = "The image is sealed while it shuts down."
  default     = "10m"
}

variable "ansible_playbook" {
  type        = string
  description = "The name or path of ansible-playbook."
  default     = "ansible-playbook"
}

variable "ansible_environment" {
  type        = list(string)
  description = "Where Ansible finds collections and roles, as NAME=value."
  default     = []
}

locals {
  output_directory = var.output_directory != "" ? var.output_directory : "${var.build_directory}/${var.image_name}"
  firmware_node    = "driver=raw,node-name=firmware-code,read-only=on,file.driver=file,file.read-only=on,file.filename=${var.firmware_code}"
  variables_node   = "driver=raw,node-name=firmware-variables,file.driver=file,file.filename=${var.firmware_variables}"
  uefi_machine     = "type=${var.machine_type},accel=${var.accelerator},pflash0=firmware-code,pflash1=firmware-variables"
  arguments = [
    ["-cpu", var.cpu_model],
    ["-serial", "file:${var.serial_log}"],
    # Packer would forward the port on all interfaces of this machine.
    ["-netdev", "user,id=user.0,hostfwd=tcp:127.0.0.1:{{ .SSHHostPort }}-:22"],
    [var.monitor == "" ? "" : "-qmp", "unix:${var.monitor},server=on,wait=off"],
    [var.firmware_code == "" ? "" : "-blockdev", local.firmware_node],
    [var.firmware_code == "" ? "" : "-blockdev", local.variables_node],
    [var.firmware_code == "" ? "" : "-machine", local.uefi_machine],
  ]
}

source "qemu" "image" {
  disk_image   = true
  iso_url      = var.base_image
  iso_checksum = var.base_checksum

  output_directory = local.output_directory
  vm_name          = var.vm_name
  format           = var.disk_format
  disk_size        = var.disk_size
  disk_interface   = "virtio"
  disk_cache       = "unsafe"
  disk_discard     = "unmap"
  # Blocks that are written as zeros take no space either.
  disk_detect_zeroes = "unmap"

  cd_files = ["${var.cloud_init_dir}/user-data", "${var.cloud_init_dir}/meta-data", "${var.cloud_init_dir}/apt.sh"]
  cd_label = "cidata"

  qemu_binary      = var.qemu_binary
  accelerator      = var.accelerator
  machine_type     = var.machine_type
  cpus             = var.cpus
  memory           = var.memory
  net_device       = "virtio-net"
  qemuargs         = [for pair in local.arguments : pair if pair[0] != ""]
  headless         = true
  vnc_bind_address = "127.0.0.1"
  # A negative time is none: nothing is typed.
  boot_wait = "-1s"

  communicator              = "ssh"
  ssh_username              = var.ssh_username
  ssh_private_key_file      = "${var.ssh_keys_dir}/id_ed25519"
  ssh_timeout               = var.ssh_timeout
  ssh_handshake_attempts    = 1000
  ssh_file_transfer_method  = "sftp"
  ssh_clear_authorized_keys = false

  shutdown_command = "sudo systemctl poweroff"
  shutdown_timeout = var.shutdown_timeout
}

build {
  sources = ["source.qemu.image"]

  # Exit code 2 means that cloud-init is done and has warnings.
  provisioner "shell" {
    inline = ["cloud-init status --wait >/dev/null || [ $? -eq 2 ] || { cloud-init status --long; exit 1; }"]
  }

  provisioner "ansible" {
    command       = var.ansible_playbook
    playbook_file = "${var.repo_tot_dir}/playbooks/provision_image.yml"
    host_alias    = var.image_name
    user          = var.ssh_username
    use_proxy     = false
    extra_arguments = [
      # Groups and hosts to which tasks are delegated.
      "--inventory=${var.source_directory}/${var.image_name}.hosts.json",
      "--limit=${var.image_name}",
      "--extra-vars=@${var.source_directory}/${var.image_name}.vars.json",
    ]
    # One connection for all tasks, and no copy of a module before it runs.
    ansible_env_vars = concat([
      "ANSIBLE_HOST_KEY_CHECKING=False",
      "ANSIBLE_NOCOLOR=True",
      "ANSIBLE_PIPELINING=True",
      "ANSIBLE_SSH_ARGS=-F none -o ControlMaster=auto -o ControlPersist=600s -o IdentityAgent=none -o UserKnownHostsFile=/dev/null -o ServerAliveInterval=15 -o ServerAliveCountMax=40",
    ], var.ansible_environment)
  }
}
