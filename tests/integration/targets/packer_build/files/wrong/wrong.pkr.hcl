source "file" "wrong" {
    content = "x"
  nonsense = true
  target = "y"
}

build {
  sources = ["source.file.wrong"]
}
