# A Spot fleet as an Auto Scaling group behind an ALB, in the account's default VPC, on Amazon Linux 2023, as in the
# tutorial (docs/tutorial.md). Each instance installs nginx and spot-relay at its first boot. For production build an
# image (packaging/ami), so that a successor serves sooner.

terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100"
    }
  }
}

provider "aws" {
  region = var.region
}

data "aws_vpc" "default" {
  default = true
}

data "aws_subnets" "default" {
  filter {
    name   = "vpc-id"
    values = [data.aws_vpc.default.id]
  }
  filter {
    name   = "default-for-az"
    values = ["true"]
  }
}

data "aws_ssm_parameter" "amazon_linux" {
  name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
}

module "fleet" {
  source = "../.."

  name                     = var.name
  vpc_id                   = data.aws_vpc.default.id
  load_balancer_subnet_ids = data.aws_subnets.default.ids
  instance_subnet_ids      = data.aws_subnets.default.ids
  ingress_cidr_blocks      = var.ingress_cidr_blocks

  image_id       = data.aws_ssm_parameter.amazon_linux.insecure_value
  instance_types = ["t3.micro", "t3a.micro", "t3.small", "t3a.small"]
  capacity       = { min = 1, desired = 2, max = 4 }

  package         = { url = var.package_url, sha256 = var.package_sha256 }
  session_manager = true
  fault_injection = true
  user_data       = file("${path.module}/web-server.sh")
}
