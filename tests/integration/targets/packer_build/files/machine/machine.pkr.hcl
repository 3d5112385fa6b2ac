variable "output_directory" {
  type = string
}

variable "disk" {
  type = string
}

variable "serial_log" {
  type = string
}

variable "monitor" {
  type    = string
  default = ""
}

variable "ssh_timeout" {
  type    = string
  default = "3s"
}

variable "accelerator" {
  type    = string
  default = "tcg"
}

variable "cpu" {
  type    = string
  default = "max"
}

source "qemu" "machine" {
  disk_image       = true
  iso_url          = var.disk
  iso_checksum     = "none"
  format           = "raw"
  output_directory = var.output_directory
  vm_name          = "disk.raw"
  accelerator      = var.accelerator
  memory           = "64"
  headless         = true
  vnc_bind_address = "127.0.0.1"
  boot_wait        = "-1s"
  ssh_username     = "nobody"
  ssh_password     = "x"
  ssh_timeout      = var.ssh_timeout
  qemuargs = [
    ["-cpu", var.cpu],
    var.monitor == "" ? ["-name", "machine"] : ["-qmp", "unix:${var.monitor},server=on,wait=off"],
    ["-serial", "file:${var.serial_log}"],
    ["-netdev", "user,id=user.0,restrict=on,hostfwd=tcp:127.0.0.1:{{ .SSHHostPort }}-:22"],
  ]
}

build {
  sources = ["source.qemu.machine"]
}
