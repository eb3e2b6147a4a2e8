# A real notice on a real instance, by one command: the output interrupt_command. AWS Fault Injection Service interrupts
# one running Spot instance of this fleet: it gets its two minutes, and then AWS takes it.

locals {
  # FIS finds its targets by a tag, and its role may interrupt only instances with this tag.
  fault_injection_tag = { "spot-relay:fault-injection" = var.name }
  # The instances have the tag only if there is an experiment.
  instance_tags = merge(var.tags, { Name = var.name }, var.fault_injection ? local.fault_injection_tag : {})
}

resource "aws_iam_role" "fault_injection" {
  count = var.fault_injection ? 1 : 0

  name_prefix        = "${var.name}-interrupt-"
  assume_role_policy = data.aws_iam_policy_document.fault_injection_trust[0].json
  tags               = var.tags
}

data "aws_iam_policy_document" "fault_injection_trust" {
  count = var.fault_injection ? 1 : 0

  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["fis.amazonaws.com"]
    }
    # Only this account's experiments may use the role.
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

resource "aws_iam_role_policy" "fault_injection" {
  count = var.fault_injection ? 1 : 0

  name   = "interrupt"
  role   = aws_iam_role.fault_injection[0].id
  policy = data.aws_iam_policy_document.fault_injection[0].json
}

data "aws_iam_policy_document" "fault_injection" {
  # checkov:skip=CKV_AWS_356:DescribeInstances has no resource-level permissions
  count = var.fault_injection ? 1 : 0

  statement {
    sid       = "FindTargets"
    actions   = ["ec2:DescribeInstances"]
    resources = ["*"]
  }
  statement {
    sid       = "Interrupt"
    actions   = ["ec2:SendSpotInstanceInterruptions"]
    resources = ["arn:${data.aws_partition.current.partition}:ec2:${data.aws_region.current.name}:${data.aws_caller_identity.current.account_id}:instance/*"]
    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${keys(local.fault_injection_tag)[0]}"
      values   = values(local.fault_injection_tag)
    }
  }
}

resource "aws_fis_experiment_template" "interrupt" {
  count = var.fault_injection ? 1 : 0

  description = "Interrupts one Spot instance of ${var.name}"
  role_arn    = aws_iam_role.fault_injection[0].arn

  action {
    name      = "interrupt"
    action_id = "aws:ec2:send-spot-instance-interruptions"
    # The shortest duration that FIS accepts: the notice comes at once, without a recommendation before it.
    parameter {
      key   = "durationBeforeInterruption"
      value = "PT2M"
    }
    target {
      key   = "SpotInstances"
      value = "one-of-the-fleet"
    }
  }

  target {
    name           = "one-of-the-fleet"
    resource_type  = "aws:ec2:spot-instance"
    selection_mode = "COUNT(1)"
    resource_tag {
      key   = keys(local.fault_injection_tag)[0]
      value = var.name
    }
    filter {
      path   = "State.Name"
      values = ["running"]
    }
  }

  # There is only one notice, so nothing has to be stopped.
  stop_condition {
    source = "none"
  }

  tags = merge(var.tags, { Name = "${var.name}-interrupt" })

  depends_on = [aws_iam_role_policy.fault_injection]
}
