# In a file of its own: Packer 1.6, which Debian has, does not know this block, and needs none of it.
packer {
  required_version = ">= 1.7"
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.2"
    }
  }
}
