# The module's plans for its variables, with a mock provider. Run `terraform test` in the module's directory.

mock_provider "aws" {
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_region" {
    defaults = { name = "eu-west-1" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_resource "aws_lb" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/web/0123456789abcdef" }
  }
  mock_resource "aws_lb_target_group" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web-80/0123456789abcdef" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
  }
  mock_resource "aws_iam_instance_profile" {
    defaults = { arn = "arn:aws:iam::123456789012:instance-profile/web" }
  }
  mock_resource "aws_ec2_fleet" {
    defaults = { id = "fleet-0123", arn = "arn:aws:ec2:eu-west-1:123456789012:fleet/fleet-0123" }
  }
}

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

run "a_group_of_spot_instances_over_every_type_is_the_default" {
  command = apply

  assert {
    condition     = length(aws_ec2_fleet.this) == 0 && one(aws_autoscaling_group.this[*].capacity_rebalance) == false
    error_message = "a group without Capacity Rebalancing, and no fleet"
  }
  assert {
    condition     = [for it in aws_autoscaling_group.this[0].mixed_instances_policy[0].launch_template[0].override : it.instance_type] == ["m6i.large", "m6a.large"]
    error_message = "every type is an override"
  }
  assert {
    condition     = aws_autoscaling_group.this[0].mixed_instances_policy[0].instances_distribution[0].on_demand_percentage_above_base_capacity == 0
    error_message = "all above the base is Spot"
  }
  assert {
    condition     = length(aws_autoscaling_lifecycle_hook.termination) == 0
    error_message = "no hook unless asked for"
  }
  assert {
    condition     = aws_launch_template.this.metadata_options[0].http_tokens == "required" && aws_launch_template.this.metadata_options[0].instance_metadata_tags == "enabled" && aws_launch_template.this.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "version 2 of the metadata service, with tags, one hop"
  }
  assert {
    condition     = aws_launch_template.this.user_data == null
    error_message = "an image that has everything gets no user data"
  }
  assert {
    condition     = aws_lb_target_group.this.deregistration_delay == "60" && aws_lb_listener.this.protocol == "HTTP" && aws_lb_listener.this.port == 80
    error_message = "60 seconds, and HTTP in the clear without a certificate"
  }
  assert {
    condition     = toset([for it in jsondecode(output.policy_json).Statement : it.Sid]) == toset(["LookUp", "TargetGroups", "MarkItself", "Unmark", "AskTheGroup"])
    error_message = "the group's permissions"
  }
  assert {
    condition     = [for it in jsondecode(output.policy_json).Statement : it.Action if it.Sid == "AskTheGroup"][0] == ["autoscaling:AttachInstances", "autoscaling:DetachInstances"]
    error_message = "detached, and attached again"
  }
}

run "a_termination_hook_is_completed_and_nothing_is_detached" {
  command = apply
  variables {
    termination_hook = 180
  }
  assert {
    condition     = aws_autoscaling_lifecycle_hook.termination[0].heartbeat_timeout == 180 && aws_autoscaling_lifecycle_hook.termination[0].default_result == "CONTINUE"
    error_message = "the hook"
  }
  assert {
    condition     = [for it in jsondecode(output.policy_json).Statement : it.Action if it.Sid == "AskTheGroup"][0] == ["autoscaling:CompleteLifecycleAction", "autoscaling:RecordLifecycleActionHeartbeat", "autoscaling:TerminateInstanceInAutoScalingGroup"]
    error_message = "terminated in the group, with the hook completed"
  }
}

run "a_fleet_registers_its_instances_itself" {
  command = apply
  variables {
    owner          = "ec2-fleet"
    on_demand_base = 1
    capacity       = { desired = 3 }
  }
  assert {
    condition     = length(aws_autoscaling_group.this) == 0 && aws_ec2_fleet.this[0].type == "maintain"
    error_message = "a fleet of type maintain, and no group"
  }
  assert {
    condition     = length(aws_ec2_fleet.this[0].launch_template_config[0].override) == 4
    error_message = "every type in every subnet"
  }
  assert {
    condition     = aws_ec2_fleet.this[0].target_capacity_specification[0].spot_target_capacity == 2 && aws_ec2_fleet.this[0].target_capacity_specification[0].on_demand_target_capacity == 1
    error_message = "the base is On-Demand, the rest Spot"
  }
  assert {
    condition     = strcontains(local.config, "target-groups = [\"${aws_lb_target_group.this.arn}\"]") && strcontains(local.config, "register = true")
    error_message = "the configuration registers each instance in the target group"
  }
  assert {
    condition     = [for it in jsondecode(output.policy_json).Statement : it.Resource if it.Sid == "AskTheFleet"][0] == [aws_ec2_fleet.this[0].arn]
    error_message = "this fleet's capacity and no other's"
  }
}

run "an_owner_that_rebalances_is_not_asked" {
  command = apply
  variables {
    capacity_rebalancing = true
  }
  assert {
    condition     = aws_autoscaling_group.this[0].capacity_rebalance && length([for it in jsondecode(output.policy_json).Statement : it if it.Sid == "AskTheGroup"]) == 0
    error_message = "Capacity Rebalancing, and no permission to ask"
  }
}

run "a_certificate_brings_tls_and_a_redirect" {
  command = apply
  variables {
    certificate_arn = "arn:aws:acm:eu-west-1:123456789012:certificate/0123"
  }
  assert {
    condition     = aws_lb_listener.this.protocol == "HTTPS" && aws_lb_listener.this.port == 443 && length(aws_lb_listener.redirect) == 1
    error_message = "HTTPS, and port 80 sends there"
  }
  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.load_balancer) == 2
    error_message = "both ports are open"
  }
}

run "a_network_load_balancer_forwards_tcp" {
  command = apply
  variables {
    load_balancer_type = "network"
  }
  assert {
    condition     = aws_lb_target_group.this.protocol == "TCP" && aws_lb_listener.this.protocol == "TCP" && length(aws_lb_listener.redirect) == 0
    error_message = "TCP, and no redirect"
  }
}

run "permissions_follow_the_configuration" {
  command = apply
  variables {
    config = <<-TOML
      [leave]
      when = "successor-healthy" # not: then = "stay-out"
      [survive]
      then = 'terminate'
    TOML
  }
  assert {
    condition     = contains([for it in jsondecode(output.policy_json).Statement : it.Action if it.Sid == "AskTheGroup"][0], "autoscaling:LaunchInstances")
    error_message = "the successor first"
  }
  assert {
    condition     = length([for it in jsondecode(output.policy_json).Statement : it if it.Sid == "EndItself"]) == 1
    error_message = "a survivor ends itself"
  }
}

run "a_configuration_that_stays_out_registers_nothing_where_the_group_launches_by_itself" {
  command = apply
  variables {
    capacity_rebalancing = true
    config               = "[survive]\nthen = \"stay-out\"\n"
  }
  assert {
    condition     = [for it in jsondecode(output.policy_json).Statement : it.Action if it.Sid == "TargetGroups"][0] == ["elasticloadbalancing:DeregisterTargets"]
    error_message = "only out"
  }
}

run "a_configuration_that_stays_out_registers_to_serve_on_where_the_group_takes_it_out" {
  command = apply
  variables {
    config = "[survive]\nthen = \"stay-out\"\n"
  }
  assert {
    condition     = contains([for it in jsondecode(output.policy_json).Statement : it.Action if it.Sid == "TargetGroups"][0], "elasticloadbalancing:RegisterTargets")
    error_message = "in again, where nobody else serves"
  }
}

run "a_package_and_an_own_script_are_parts_of_the_user_data" {
  command = apply
  variables {
    package   = { url = "https://packages.example.com/spot-relay.deb", sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
    user_data = "#cloud-config\npackages: [nginx]\n"
    config    = "[leave]\nquiet-for = \"5s\"\n"
  }
  assert {
    condition     = [for it in local.user_data_parts : it.type] == ["text/cloud-boothook", "text/x-shellscript", "text/cloud-config"]
    error_message = "the configuration, the package, the user's own"
  }
  assert {
    condition     = strcontains(local.user_data_parts[1].text, "SPOT_RELAY_URL='https://packages.example.com/spot-relay.deb'")
    error_message = "the package's URL"
  }
}

run "two_subnets_of_one_zone_are_good_enough_for_a_group" {
  command = plan
  variables {
    instance_subnet_ids = ["subnet-c", "subnet-d", "subnet-e"]
  }
  override_data {
    target = data.aws_subnet.instances[2]
    values = { availability_zone = "eu-west-1a" }
  }
}

run "no_experiment_unless_asked_for" {
  command = plan
  assert {
    condition     = length(aws_fis_experiment_template.interrupt) == 0 && length(aws_iam_role.fault_injection) == 0 && output.interrupt_command == null
    error_message = "nothing of fault injection"
  }
  assert {
    condition     = !contains([for it in aws_autoscaling_group.this[0].tag : it.key], "spot-relay:fault-injection")
    error_message = "no instance bears the tag"
  }
}

run "an_experiment_interrupts_one_instance_of_this_fleet" {
  command = apply
  variables {
    fault_injection = true
  }
  override_resource {
    target = aws_iam_role.fault_injection
    values = { arn = "arn:aws:iam::123456789012:role/web-interrupt" }
  }
  override_data {
    target = data.aws_iam_policy_document.fault_injection
    values = { json = "{}" }
  }
  override_data {
    target = data.aws_iam_policy_document.fault_injection_trust
    values = { json = "{}" }
  }
  override_resource {
    target = aws_fis_experiment_template.interrupt
    values = { id = "EXT0123" }
  }
  assert {
    condition     = one(aws_fis_experiment_template.interrupt[0].target).selection_mode == "COUNT(1)" && one(one(aws_fis_experiment_template.interrupt[0].target).resource_tag).value == "web"
    error_message = "one instance, by the fleet's own tag"
  }
  assert {
    condition     = contains([for it in aws_autoscaling_group.this[0].tag : it.key], "spot-relay:fault-injection")
    error_message = "the instances bear the tag"
  }
  assert {
    condition     = data.aws_iam_policy_document.fault_injection[0].statement[1].actions == toset(["ec2:SendSpotInstanceInterruptions"]) && one(data.aws_iam_policy_document.fault_injection[0].statement[1].condition).variable == "aws:ResourceTag/spot-relay:fault-injection"
    error_message = "the role interrupts nothing else"
  }
  assert {
    condition     = output.interrupt_command == "aws fis start-experiment --experiment-template-id EXT0123"
    error_message = "one command"
  }
}

run "a_presigned_url_is_one" {
  command = plan
  variables {
    package = { url = "https://example.com/spot-relay.deb?X-Amz-Expires=600&X-Amz-Signature=0a", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }
  }
}
