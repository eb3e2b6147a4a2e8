# The instances, for both kinds of owner. It does not ask for Spot: the owner does.

locals {
  fleet_config = <<-TOML
    # Written at every boot by the launch template of ${var.name}: an EC2 Fleet knows no target group.
    target-groups = ${jsonencode(local.target_group_arns)}

    [arrive]
    register = true
    ready = "http://127.0.0.1:${var.target_port}${var.health_check.path}"
  TOML

  config = var.config != null ? var.config : (var.owner == "ec2-fleet" ? local.fleet_config : null)

  # The order at boot: the configuration before any service starts, then the package, then the user's own part.
  user_data_parts = concat(
    [for text in local.config[*] : {
      type = "text/cloud-boothook"
      name = "spot-relay-config"
      text = templatefile("${path.module}/config.sh.tftpl", { config = base64encode(text) })
    }],
    [for package in var.package[*] : {
      type = "text/x-shellscript"
      name = "spot-relay-install"
      text = templatefile("${path.module}/install.sh.tftpl", { url = package.url, sha256 = package.sha256, script = file("${path.module}/../ami/install.sh") })
    }],
    [for text in var.user_data[*] : {
      type = startswith(text, "#cloud-config") ? "text/cloud-config" : "text/x-shellscript"
      name = "user-data"
      text = text
    }],
  )

  user_data = templatefile("${path.module}/user-data.mime.tftpl", { parts = local.user_data_parts })
}

resource "aws_launch_template" "this" {
  name_prefix            = "${var.name}-"
  description            = "Instances of ${var.name}"
  image_id               = var.image_id
  instance_type          = var.instance_types[0]
  key_name               = var.key_name
  update_default_version = true
  user_data              = length(local.user_data_parts) == 0 ? null : base64encode(local.user_data)
  vpc_security_group_ids = concat([aws_security_group.instances.id], var.security_group_ids)

  iam_instance_profile {
    arn = aws_iam_instance_profile.this.arn
  }

  # Only version 2 of the metadata service, no hop into a container's network, and the tags that name the owner.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
    instance_metadata_tags      = "enabled"
  }

  block_device_mappings {
    device_name = var.root_device_name
    ebs {
      encrypted             = true
      volume_type           = "gp3"
      volume_size           = var.root_volume_size
      delete_on_termination = true
    }
  }

  monitoring {
    enabled = false
  }

  dynamic "tag_specifications" {
    for_each = toset(["instance", "volume"])
    content {
      resource_type = tag_specifications.value
      tags          = local.instance_tags
    }
  }

  tags = var.tags
}
