# The load balancer, its listeners, and the target group from which an instance under notice is taken.

locals {
  application = var.load_balancer_type == "application"
  encrypted   = var.certificate_arn != null
  # Every target group of the instances.
  target_group_arns = concat([aws_lb_target_group.this.arn], var.target_group_arns)
  # The ports on which the load balancer listens.
  listen_ports = toset(local.encrypted ? (local.application ? [80, 443] : [443]) : [80])
}

resource "aws_lb" "this" {
  # checkov:skip=CKV_AWS_91:access logs need a bucket with its own policy: access_logs_bucket turns them on
  # checkov:skip=CKV_AWS_150:so that destroy leaves nothing: deletion_protection turns it on
  # checkov:skip=CKV2_AWS_20:the redirect exists where there is a certificate
  # checkov:skip=CKV2_AWS_28:a web application firewall is the application's matter; attach one to the output load_balancer_arn
  name                             = var.name
  load_balancer_type               = var.load_balancer_type
  internal                         = var.internal
  subnets                          = var.load_balancer_subnet_ids
  security_groups                  = [aws_security_group.load_balancer.id]
  enable_deletion_protection       = var.deletion_protection
  enable_cross_zone_load_balancing = true
  drop_invalid_header_fields       = local.application ? true : null

  dynamic "access_logs" {
    for_each = var.access_logs_bucket[*]
    content {
      bucket  = access_logs.value
      prefix  = var.name
      enabled = true
    }
  }

  tags = merge(var.tags, { Name = var.name })

  depends_on = [terraform_data.zones]
}

resource "aws_lb_target_group" "this" {
  # checkov:skip=CKV_AWS_378:the instances are reached inside the VPC; TLS ends at the load balancer
  # The port is in the name, so that Terraform can make the new group before it removes the old one.
  name                 = "${var.name}-${var.target_port}"
  vpc_id               = var.vpc_id
  target_type          = "instance"
  port                 = var.target_port
  protocol             = local.application ? "HTTP" : "TCP"
  deregistration_delay = var.deregistration_delay

  health_check {
    protocol            = "HTTP"
    path                = var.health_check.path
    matcher             = var.health_check.matcher
    interval            = var.health_check.interval
    timeout             = var.health_check.timeout
    healthy_threshold   = var.health_check.healthy_threshold
    unhealthy_threshold = var.health_check.unhealthy_threshold
  }

  tags = merge(var.tags, { Name = var.name })

  lifecycle {
    create_before_destroy = true
  }
}

# The listener that serves: TLS if there is a certificate, else plain HTTP or TCP on the one port.
resource "aws_lb_listener" "this" {
  # checkov:skip=CKV_AWS_2:in the clear only where no certificate is given
  # checkov:skip=CKV_AWS_103:TLS 1.2 at least is in the policy wherever there is TLS
  load_balancer_arn = aws_lb.this.arn
  port              = local.encrypted ? 443 : 80
  protocol          = local.application ? (local.encrypted ? "HTTPS" : "HTTP") : (local.encrypted ? "TLS" : "TCP")
  certificate_arn   = var.certificate_arn
  ssl_policy        = local.encrypted ? "ELBSecurityPolicy-TLS13-1-2-2021-06" : null
  tags              = var.tags

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.this.arn
  }
}

resource "aws_lb_listener" "redirect" {
  count = local.application && local.encrypted ? 1 : 0

  load_balancer_arn = aws_lb.this.arn
  port              = 80
  protocol          = "HTTP"
  tags              = var.tags

  default_action {
    type = "redirect"
    redirect {
      port        = "443"
      protocol    = "HTTPS"
      status_code = "HTTP_301"
    }
  }
}
