# The owner, which launches and replaces the instances: an Auto Scaling group or an EC2 Fleet.

locals {
  is_group = var.owner == "auto-scaling-group"
  desired  = coalesce(var.capacity.desired, var.capacity.min)
}

resource "aws_autoscaling_group" "this" {
  count = local.is_group ? 1 : 0

  name                      = var.name
  min_size                  = var.capacity.min
  max_size                  = var.capacity.max
  desired_capacity          = var.capacity.desired
  vpc_zone_identifier       = var.instance_subnet_ids
  target_group_arns         = local.target_group_arns
  health_check_type         = "ELB"
  health_check_grace_period = var.health_check_grace_period
  capacity_rebalance        = var.capacity_rebalancing

  mixed_instances_policy {
    instances_distribution {
      on_demand_base_capacity                  = var.on_demand_base
      on_demand_percentage_above_base_capacity = 0
      spot_allocation_strategy                 = "price-capacity-optimized"
    }
    launch_template {
      launch_template_specification {
        launch_template_id = aws_launch_template.this.id
        version            = aws_launch_template.this.latest_version
      }
      dynamic "override" {
        for_each = var.instance_types
        content {
          instance_type = override.value
        }
      }
    }
  }

  # The instances get a new version of the launch template one after another.
  instance_refresh {
    strategy = "Rolling"
    preferences {
      min_healthy_percentage = 90
    }
  }

  dynamic "tag" {
    for_each = local.instance_tags
    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = true
    }
  }

  # Without permissions or a reachable target group an instance would be useless.
  depends_on = [aws_iam_role_policy.this, aws_lb_listener.this, terraform_data.zones]
}

resource "aws_autoscaling_lifecycle_hook" "termination" {
  count = local.is_group && var.termination_hook != null ? 1 : 0

  name                   = "spot-relay"
  autoscaling_group_name = aws_autoscaling_group.this[0].name
  lifecycle_transition   = "autoscaling:EC2_INSTANCE_TERMINATING"
  heartbeat_timeout      = var.termination_hook
  default_result         = "CONTINUE"
}

resource "aws_ec2_fleet" "this" {
  count = local.is_group ? 0 : 1

  type                               = "maintain"
  terminate_instances                = true
  excess_capacity_termination_policy = "termination"

  launch_template_config {
    launch_template_specification {
      launch_template_id = aws_launch_template.this.id
      version            = aws_launch_template.this.latest_version
    }
    dynamic "override" {
      for_each = setproduct(var.instance_types, var.instance_subnet_ids)
      content {
        instance_type = override.value[0]
        subnet_id     = override.value[1]
      }
    }
  }

  target_capacity_specification {
    default_target_capacity_type = "spot"
    total_target_capacity        = local.desired
    on_demand_target_capacity    = var.on_demand_base > 0 ? var.on_demand_base : null
    spot_target_capacity         = local.desired - var.on_demand_base
  }

  spot_options {
    allocation_strategy = "price-capacity-optimized"

    dynamic "maintenance_strategies" {
      for_each = var.capacity_rebalancing ? [true] : []
      content {
        capacity_rebalance {
          replacement_strategy = "launch"
        }
      }
    }
  }

  tags = merge(var.tags, { Name = var.name })

  lifecycle {
    # While a member has a notice spot-relay keeps the fleet's own capacity in the tag, raises the capacity, and sets
    # the policy to "no-termination". If Terraform put that back too early a member would be terminated. Values that EC2
    # fills in must not replace the fleet, because that would terminate every instance.
    ignore_changes = [
      tags["spot-relay:base-capacity"], tags_all["spot-relay:base-capacity"],
      excess_capacity_termination_policy, valid_from, terminate_instances_with_expiration, on_demand_options,
      spot_options[0].instance_pools_to_use_count,
    ]
  }

  depends_on = [aws_lb_listener.this, terraform_data.zones]
}
