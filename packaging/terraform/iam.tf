# The least permissions of spot-relay. The statements are those of `spot-relay policy`, with this fleet's names; a test
# compares them.

data "aws_partition" "current" {}
data "aws_region" "current" {}
data "aws_caller_identity" "current" {}

locals {
  partition = data.aws_partition.current.partition
  here      = "${data.aws_region.current.name}:${data.aws_caller_identity.current.account_id}"
  instances = "arn:${local.partition}:ec2:${local.here}:instance"

  # The parts of the configuration that decide on permissions.
  settings       = local.config == null ? "" : local.config
  launches_first = can(regex("(?m)^[^#\\n]*\\b(when\\s*=\\s*[\"']successor-healthy|(rebalance|scheduled-events)\\s*=\\s*[\"']hand-over)[\"']", local.settings))
  at_once        = can(regex("(?m)^[^#\\n]*\\bwhen\\s*=\\s*[\"']at-once[\"']", local.settings))
  stays_out      = can(regex("(?m)^[^#\\n]*\\bthen\\s*=\\s*[\"']stay-out[\"']", local.settings))
  ends_itself    = can(regex("(?m)^[^#\\n]*\\bthen\\s*=\\s*[\"']terminate[\"']", local.settings))
  arrives        = can(regex("(?m)^[^#\\n]*\\bregister\\s*=\\s*true\\b", local.settings))
  lifecycle      = !can(regex("(?m)^[^#\\n]*\\blifecycle\\s*=\\s*false\\b", local.settings))

  # The request for the successor. An owner with Capacity Rebalancing is not asked.
  has_hook   = local.is_group && var.termination_hook != null
  detaches   = local.is_group && !var.capacity_rebalancing && !local.has_hook
  terminates = local.is_group && !var.capacity_rebalancing && local.has_hook
  raises     = !local.is_group && !var.capacity_rebalancing

  # If the group launches first spot-relay chooses the zone; the group has two zones or more.
  chooses_zones = (local.detaches || local.terminates) && (local.launches_first || !local.at_once)

  group_actions = sort(concat(
    local.detaches ? ["autoscaling:DetachInstances"] : [],
    local.detaches && !local.stays_out ? ["autoscaling:AttachInstances"] : [],
    local.terminates ? ["autoscaling:TerminateInstanceInAutoScalingGroup"] : [],
    local.launches_first && (local.detaches || local.terminates) ? ["autoscaling:LaunchInstances"] : [],
    local.has_hook && (local.terminates || local.lifecycle) ? ["autoscaling:CompleteLifecycleAction", "autoscaling:RecordLifecycleActionHeartbeat"] : [],
  ))
  fleet_arn = local.is_group ? "" : aws_ec2_fleet.this[0].arn

  # LaunchInstances launches in this role's name, so it needs the group's template and the role that it passes.
  launches  = local.launches_first && (local.detaches || local.terminates)
  ec2       = "arn:${local.partition}:ec2:${local.here}"
  images    = "arn:${local.partition}:ec2:${data.aws_region.current.name}:"
  role      = "arn:${local.partition}:iam::${data.aws_caller_identity.current.account_id}:role"
  services  = local.partition == "aws-cn" ? ["ec2.amazonaws.com", "ec2.amazonaws.com.cn"] : ["ec2.amazonaws.com"]
  templates = local.launches ? [aws_launch_template.this.arn] : []
  subnets   = [for id in sort(var.instance_subnet_ids) : "${local.ec2}:subnet/${id}"]
  security_groups = local.launches ? [
    for id in sort(aws_launch_template.this.vpc_security_group_ids) : "${local.ec2}:security-group/${id}"
  ] : []

  # Calls that concern only the instance itself.
  about_itself = { "ec2:SourceInstanceARN" = ["${local.instances}/$${ec2:InstanceId}"] }

  statements = concat(
    [
      {
        Sid    = "LookUp"
        Effect = "Allow"
        Action = sort(concat(
          [
            "ec2:DescribeInstances",
            "ec2:DescribeTags",
            "elasticloadbalancing:DescribeTargetGroupAttributes",
            "elasticloadbalancing:DescribeTargetGroups",
            "elasticloadbalancing:DescribeTargetHealth",
          ],
          local.is_group ? [
            "autoscaling:DescribeAutoScalingGroups",
            "autoscaling:DescribeLifecycleHooks",
            ] : [
            "ec2:DescribeFleetInstances",
            "ec2:DescribeFleets",
            "ec2:DescribeSpotInstanceRequests",
          ],
          local.launches ? ["ec2:DescribeLaunchTemplateVersions"] : [],
          local.chooses_zones ? ["elasticloadbalancing:DescribeLoadBalancers"] : [],
        ))
        Resource = ["*"]
      },
      {
        Sid    = "TargetGroups"
        Effect = "Allow"
        Action = concat(
          ["elasticloadbalancing:DeregisterTargets"],
          local.is_group && var.capacity_rebalancing && local.stays_out && !local.arrives ? [] : ["elasticloadbalancing:RegisterTargets"],
        )
        Resource = sort(local.target_group_arns)
      },
      {
        Sid      = "MarkItself"
        Effect   = "Allow"
        Action   = ["ec2:CreateTags"]
        Resource = ["${local.instances}/*"]
        Condition = {
          "ArnLike"                   = local.about_itself
          "ForAllValues:StringEquals" = { "aws:TagKeys" = ["spot-relay:leaving"] }
          "Null"                      = { "aws:TagKeys" = "false" }
        }
      },
      # DeleteTags has no condition key for the caller's own instance, so only the tag limits it.
      {
        Sid      = "Unmark"
        Effect   = "Allow"
        Action   = ["ec2:DeleteTags"]
        Resource = ["${local.instances}/*"]
        Condition = {
          "ForAllValues:StringEquals" = { "aws:TagKeys" = ["spot-relay:leaving"] }
          "Null"                      = { "aws:TagKeys" = "false" }
        }
      },
    ],
    [for action in(local.ends_itself ? ["ec2:TerminateInstances"] : []) : {
      Sid       = "EndItself"
      Effect    = "Allow"
      Action    = [action]
      Resource  = ["${local.instances}/*"]
      Condition = { "ArnLike" = local.about_itself }
    }],
    [for actions in(length(local.group_actions) > 0 ? [local.group_actions] : []) : {
      Sid      = "AskTheGroup"
      Effect   = "Allow"
      Action   = actions
      Resource = ["arn:${local.partition}:autoscaling:${local.here}:autoScalingGroup:*:autoScalingGroupName/${var.name}"]
    }],
    [for template in local.templates : {
      Sid      = "FleetFrom"
      Effect   = "Allow"
      Action   = ["ec2:CreateFleet"]
      Resource = concat([template], local.subnets, ["${local.images}:image/*", "${local.ec2}:volume/*"])
    }],
    [for template in local.templates : {
      Sid    = "LaunchFrom"
      Effect = "Allow"
      Action = ["ec2:RunInstances"]
      Resource = concat(
        [template],
        local.subnets,
        ["${local.images}:image/*", "${local.images}:snapshot/*", "${local.ec2}:network-interface/*", "${local.ec2}:volume/*"],
        local.security_groups,
        [for name in var.key_name[*] : "${local.ec2}:key-pair/${name}"],
      )
    }],
    [for _ in local.templates : {
      Sid      = "MakeFleets"
      Effect   = "Allow"
      Action   = ["ec2:CreateFleet"]
      Resource = ["${local.ec2}:fleet/*"]
    }],
    [for _ in local.templates : {
      Sid      = "LaunchSuccessors"
      Effect   = "Allow"
      Action   = ["ec2:CreateFleet", "ec2:RunInstances"]
      Resource = ["${local.instances}/*"]
    }],
    [for _ in local.templates : {
      Sid       = "TagWhatIsLaunched"
      Effect    = "Allow"
      Action    = ["ec2:CreateTags"]
      Resource  = [for kind in ["fleet", "instance", "network-interface", "volume"] : "${local.ec2}:${kind}/*"]
      Condition = { "StringEquals" = { "ec2:CreateAction" = ["CreateFleet", "RunInstances"] } }
    }],
    [for _ in local.templates : {
      Sid       = "PassTheTemplatesRole"
      Effect    = "Allow"
      Action    = ["iam:PassRole"]
      Resource  = ["${local.role}/${aws_iam_role.this.name}", "${local.role}/*/${aws_iam_role.this.name}"]
      Condition = { "StringEquals" = { "iam:PassedToService" = local.services } }
    }],
    [for arn in(local.raises ? [local.fleet_arn] : []) : {
      Sid      = "AskTheFleet"
      Effect   = "Allow"
      Action   = ["ec2:ModifyFleet"]
      Resource = [arn]
    }],
    [for arn in(local.raises ? [local.fleet_arn] : []) : {
      Sid      = "NoteTheFleetsCapacity"
      Effect   = "Allow"
      Action   = ["ec2:CreateTags", "ec2:DeleteTags"]
      Resource = [arn]
      Condition = {
        "ForAllValues:StringEquals" = { "aws:TagKeys" = ["spot-relay:base-capacity"] }
        "Null"                      = { "aws:TagKeys" = "false" }
      }
    }],
  )

  policy = jsonencode({ Version = "2012-10-17", Statement = local.statements })
}

resource "aws_iam_role" "this" {
  name_prefix = "${var.name}-"
  description = "Instances of ${var.name}"
  tags        = var.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ec2.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "this" {
  name   = "spot-relay"
  role   = aws_iam_role.this.id
  policy = local.policy
}

resource "aws_iam_role_policy_attachment" "session_manager" {
  count = var.session_manager ? 1 : 0

  role       = aws_iam_role.this.name
  policy_arn = "arn:${local.partition}:iam::aws:policy/AmazonSSMManagedInstanceCore"
}

resource "aws_iam_instance_profile" "this" {
  name_prefix = "${var.name}-"
  role        = aws_iam_role.this.name
  tags        = var.tags
}
