# This block has its own file, because Packer 1.6 (Debian's) does not know it, and does not need it.
packer {
  required_version = ">= 1.7"
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.2"
    }
  }
}
