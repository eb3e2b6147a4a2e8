# An image of Debian, Ubuntu or Amazon Linux 2023 with spot-relay. Put your service's own provisioners before the last
# one, which removes everything that belongs to this one machine.
#
#   cd packaging/ami && packer init . && packer build -var base=debian -var package_url=... -var package_sha256=... .

variable "base" {
  description = "The distribution to build on: debian, ubuntu or amazon-linux."
  type        = string
  default     = "amazon-linux"
}

variable "package_url" {
  description = "A .deb for debian and ubuntu, an .rpm for amazon-linux."
  type        = string
}

variable "package_sha256" {
  description = "The package's SHA-256, as sha256sum prints it."
  type        = string
}

variable "region" {
  description = "Where the image is made."
  type        = string
  default     = "eu-west-1"
}

variable "instance_type" {
  description = "Of the machine on which it is made; its architecture is the image's."
  type        = string
  default     = "t3.small"
}

variable "architecture" {
  description = "Of the instance type: x86_64 or arm64."
  type        = string
  default     = "x86_64"
}

locals {
  # The publisher and the name of each base image.
  bases = {
    debian       = { owner = "136693071363", name = "debian-12-*", user = "admin" }
    ubuntu       = { owner = "099720109477", name = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-*-server-*", user = "ubuntu" }
    amazon-linux = { owner = "137112412989", name = "al2023-ami-2023.*", user = "ec2-user" }
  }
  base = local.bases[var.base]
}

source "amazon-ebs" "spot-relay" {
  region        = var.region
  instance_type = var.instance_type
  ami_name      = "spot-relay-${var.base}-${formatdate("YYYYMMDD-hhmmss", timestamp())}"
  ssh_username  = local.base.user
  encrypt_boot  = true

  source_ami_filter {
    most_recent = true
    owners      = [local.base.owner]
    filters = {
      name                = local.base.name
      architecture        = var.architecture
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
  }
}

build {
  sources = ["source.amazon-ebs.spot-relay"]

  # cloud-init may still be installing packages.
  provisioner "shell" {
    inline = ["cloud-init status --wait || true"]
  }

  provisioner "shell" {
    execute_command  = "sudo env {{ .Vars }} sh {{ .Path }}"
    environment_vars = ["SPOT_RELAY_URL=${var.package_url}", "SPOT_RELAY_SHA256=${var.package_sha256}"]
    script           = "${path.root}/install.sh"
  }

  provisioner "shell" {
    execute_command = "sudo sh {{ .Path }}"
    script          = "${path.root}/seal.sh"
  }
}
