source "file" "wrong" {
    content = "x"
  nonsense = true
  target = "y"
}
