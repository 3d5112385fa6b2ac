packer {
  required_plugins {
    nothing = {
      version = ">= 1.0.0"
      source  = "github.com/hashicorp/nothing"
    }
  }
}
