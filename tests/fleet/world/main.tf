# The world that the tests build on moto: both examples as they are, and one fleet of every kind whose settings the tests
# change. The tests copy packaging/terraform beside this file as terraform/.

provider "aws" {
  region = "eu-west-1"
}

variable "settings" {
  description = "Of the fleet that changes."
  type        = any
  default     = {}
}

data "aws_vpc" "default" {
  default = true
}

data "aws_subnets" "default" {
  filter {
    name   = "vpc-id"
    values = [data.aws_vpc.default.id]
  }
}

module "tutorial" {
  source = "./terraform/examples/auto-scaling-group"

  ingress_cidr_blocks = ["203.0.113.7/32"]
  package_url         = "https://packages.example.com/spot-relay.rpm"
  package_sha256      = sha256("spot-relay.rpm")
}

module "image" {
  source = "./terraform/examples/ec2-fleet"

  vpc_id             = data.aws_vpc.default.id
  public_subnet_ids  = data.aws_subnets.default.ids
  private_subnet_ids = data.aws_subnets.default.ids
  image_id           = "ami-12c6146b"
}

module "changing" {
  source = "./terraform"

  name                     = "changing"
  vpc_id                   = data.aws_vpc.default.id
  load_balancer_subnet_ids = data.aws_subnets.default.ids
  instance_subnet_ids      = data.aws_subnets.default.ids
  ingress_cidr_blocks      = ["203.0.113.0/24"]
  image_id                 = "ami-12c6146b"
  instance_types           = ["m5.large", "m5a.large"]

  owner                = try(var.settings.owner, "auto-scaling-group")
  termination_hook     = try(var.settings.termination_hook, null)
  capacity_rebalancing = try(var.settings.capacity_rebalancing, false)
  config               = try(var.settings.config, null)
}

output "policies" {
  value = {
    tutorial = module.tutorial.policy_json
    image    = module.image.policy_json
    changing = module.changing.policy_json
  }
}

output "fleet" {
  value = { id = module.image.ec2_fleet_id, config = module.image.config }
}
