# Allowed connections: from the world to the load balancer, from there to the instances, from there to AWS's endpoints.
# Security groups do not apply to the metadata, DNS and the clock.

resource "aws_security_group" "load_balancer" {
  name_prefix = "${var.name}-load-balancer-"
  description = "Load balancer of ${var.name}"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "${var.name}-load-balancer" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "load_balancer" {
  # checkov:skip=CKV_AWS_260:the caller decides who reaches the load balancer; there is no default
  for_each = {
    for pair in setproduct(var.ingress_cidr_blocks, local.listen_ports) : "${pair[0]} ${pair[1]}" => { block = pair[0], port = pair[1] }
  }

  security_group_id = aws_security_group.load_balancer.id
  description       = "Clients"
  cidr_ipv4         = each.value.block
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
  tags              = var.tags
}

resource "aws_vpc_security_group_egress_rule" "load_balancer" {
  security_group_id            = aws_security_group.load_balancer.id
  description                  = "Instances, and their health checks"
  referenced_security_group_id = aws_security_group.instances.id
  ip_protocol                  = "tcp"
  from_port                    = var.target_port
  to_port                      = var.target_port
  tags                         = var.tags
}

resource "aws_security_group" "instances" {
  name_prefix = "${var.name}-instances-"
  description = "Instances of ${var.name}"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "${var.name}-instances" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "instances" {
  # checkov:skip=CKV_AWS_260:only from the load balancer, which is a security group and not the world
  security_group_id            = aws_security_group.instances.id
  description                  = "Load balancer"
  referenced_security_group_id = aws_security_group.load_balancer.id
  ip_protocol                  = "tcp"
  from_port                    = var.target_port
  to_port                      = var.target_port
  tags                         = var.tags
}

resource "aws_vpc_security_group_egress_rule" "instances" {
  for_each = toset([for port in var.egress_ports : tostring(port)])

  security_group_id = aws_security_group.instances.id
  description       = "AWS endpoints and package repositories"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = tonumber(each.value)
  to_port           = tonumber(each.value)
  tags              = var.tags
}
