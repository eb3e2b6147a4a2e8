# The zones of the subnets. A target in a zone that is not enabled for the load balancer gets no requests. Two subnets
# of one zone are one Spot pool, which an EC2 Fleet accepts only once.

data "aws_subnet" "load_balancer" {
  count = length(var.load_balancer_subnet_ids)
  id    = var.load_balancer_subnet_ids[count.index]
}

data "aws_subnet" "instances" {
  count = length(var.instance_subnet_ids)
  id    = var.instance_subnet_ids[count.index]
}

locals {
  load_balancer_zones = data.aws_subnet.load_balancer[*].availability_zone
  instance_zones      = data.aws_subnet.instances[*].availability_zone
  zones_not_served    = setsubtract(local.instance_zones, local.load_balancer_zones)
}

# Checked before anything is made.
resource "terraform_data" "zones" {
  lifecycle {
    precondition {
      condition     = length(local.zones_not_served) == 0
      error_message = "instance_subnet_ids: ${join(", ", local.zones_not_served)} is no zone of the load balancer, whose targets there would get no request. Give load_balancer_subnet_ids a subnet of it, or leave it out."
    }
    precondition {
      condition     = length(toset(local.instance_zones)) >= 2
      error_message = "instance_subnet_ids: all of them are in ${join(", ", toset(local.instance_zones))}. At least two zones: where the pool of one is reclaimed, the successor comes from another."
    }
    precondition {
      condition     = local.is_group || length(toset(local.instance_zones)) == length(local.instance_zones)
      error_message = "instance_subnet_ids: one subnet a zone for an EC2 Fleet, which refuses a pool that is named twice."
    }
  }
}
