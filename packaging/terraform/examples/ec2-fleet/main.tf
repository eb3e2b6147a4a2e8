# A Spot fleet as an EC2 Fleet of type maintain behind an NLB, from an image with spot-relay and the service
# (packaging/ami). The fleet has no target group: spot-relay registers each instance once it answers.

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

module "fleet" {
  source = "../.."

  name                     = var.name
  owner                    = "ec2-fleet"
  load_balancer_type       = "network"
  vpc_id                   = var.vpc_id
  load_balancer_subnet_ids = var.public_subnet_ids
  instance_subnet_ids      = var.private_subnet_ids
  ingress_cidr_blocks      = ["0.0.0.0/0"]

  image_id       = var.image_id
  instance_types = ["m6i.large", "m6a.large", "m5.large", "m5a.large"]
  capacity       = { min = 2, desired = 3, max = 6 }
  target_port    = 8080
  health_check   = { path = "/healthz" }
}
