variable "output_directory" {
  type = string
}

variable "word" {
  type = string
}

variable "seconds" {
  type    = string
  default = "0"
}

variable "status" {
  type    = string
  default = "0"
}

source "file" "small" {
  content = var.word
  target  = "${var.output_directory}/word.txt"
}

build {
  name    = "test"
  sources = ["source.file.small"]

  provisioner "shell-local" {
    inline = ["echo working, really", "sleep ${var.seconds}", "exit ${var.status}"]
  }
}
