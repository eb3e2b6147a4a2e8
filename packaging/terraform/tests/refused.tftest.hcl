# Variables that the module refuses before it makes anything.

mock_provider "aws" {}

override_data {
  target = data.aws_subnet.load_balancer[0]
  values = { availability_zone = "eu-west-1a" }
}
override_data {
  target = data.aws_subnet.load_balancer[1]
  values = { availability_zone = "eu-west-1b" }
}
override_data {
  target = data.aws_subnet.instances[0]
  values = { availability_zone = "eu-west-1a" }
}
override_data {
  target = data.aws_subnet.instances[1]
  values = { availability_zone = "eu-west-1b" }
}

variables {
  name                     = "web"
  vpc_id                   = "vpc-0123"
  load_balancer_subnet_ids = ["subnet-a", "subnet-b"]
  instance_subnet_ids      = ["subnet-c", "subnet-d"]
  ingress_cidr_blocks      = ["203.0.113.0/24"]
  image_id                 = "ami-0123456789abcdef0"
  instance_types           = ["m6i.large", "m6a.large"]
}

run "name" {
  command = plan
  variables {
    name = "-web"
  }
  expect_failures = [var.name]
}

run "tags" {
  command = plan
  variables {
    tags = { "a b" = "c" }
  }
  expect_failures = [var.tags]
}

run "load_balancer_subnet_ids" {
  command = plan
  variables {
    load_balancer_subnet_ids = ["subnet-a", "subnet-a"]
  }
  expect_failures = [var.load_balancer_subnet_ids]
}

run "instance_subnet_ids" {
  command = plan
  variables {
    instance_subnet_ids = ["subnet-a"]
  }
  expect_failures = [var.instance_subnet_ids]
}

run "ingress_cidr_blocks" {
  command = plan
  variables {
    ingress_cidr_blocks = ["everybody"]
  }
  expect_failures = [var.ingress_cidr_blocks]
}

run "egress_ports" {
  command = plan
  variables {
    egress_ports = [80]
  }
  expect_failures = [var.egress_ports]
}

run "load_balancer_type" {
  command = plan
  variables {
    load_balancer_type = "classic"
  }
  expect_failures = [var.load_balancer_type]
}

run "certificate_arn" {
  command = plan
  variables {
    certificate_arn = "certificate"
  }
  expect_failures = [var.certificate_arn]
}

run "target_port" {
  command = plan
  variables {
    target_port = 70000
  }
  expect_failures = [var.target_port]
}

run "health_check" {
  command = plan
  variables {
    health_check = { interval = 30, healthy_threshold = 5 }
  }
  expect_failures = [var.health_check]
}

run "deregistration_delay" {
  command = plan
  variables {
    deregistration_delay = 300
  }
  expect_failures = [var.deregistration_delay]
}

run "image_id" {
  command = plan
  variables {
    image_id = "debian"
  }
  expect_failures = [var.image_id]
}

run "instance_types" {
  command = plan
  variables {
    instance_types = ["m6i.large"]
  }
  expect_failures = [var.instance_types]
}

run "package" {
  command = plan
  variables {
    package = { url = "https://example.com/spot-relay.deb", sha256 = "no" }
  }
  expect_failures = [var.package]
}

run "config" {
  command = plan
  variables {
    config = ""
  }
  expect_failures = [var.config]
}

run "user_data" {
  command = plan
  variables {
    user_data = "apt-get install nginx"
  }
  expect_failures = [var.user_data]
}

run "owner" {
  command = plan
  variables {
    owner = "spot-fleet"
  }
  expect_failures = [var.owner]
}

run "capacity" {
  command = plan
  variables {
    capacity = { min = 2, max = 2 }
  }
  expect_failures = [var.capacity]
}

run "on_demand_base" {
  command = plan
  variables {
    on_demand_base = 3
  }
  expect_failures = [var.on_demand_base]
}

run "termination_hook" {
  command = plan
  variables {
    termination_hook = 60
    owner            = "ec2-fleet"
  }
  expect_failures = [var.termination_hook]
}

run "package_url" {
  command = plan
  variables {
    package = { url = "https://example.com/spot-relay.zip?name=spot-relay.deb", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }
  }
  expect_failures = [var.package]
}

run "a_zone_that_the_load_balancer_does_not_serve" {
  command = plan
  override_data {
    target = data.aws_subnet.instances[1]
    values = { availability_zone = "eu-west-1c" }
  }
  expect_failures = [terraform_data.zones]
}

run "two_subnets_of_one_zone_and_no_other" {
  command = plan
  override_data {
    target = data.aws_subnet.instances[1]
    values = { availability_zone = "eu-west-1a" }
  }
  expect_failures = [terraform_data.zones]
}

run "two_subnets_of_one_zone_for_a_fleet" {
  command = plan
  variables {
    owner               = "ec2-fleet"
    instance_subnet_ids = ["subnet-c", "subnet-d", "subnet-e"]
  }
  override_data {
    target = data.aws_subnet.instances[2]
    values = { availability_zone = "eu-west-1a" }
  }
  expect_failures = [terraform_data.zones]
}
