output "url" {
  description = "Where the load balancer answers. With a certificate use your own name, pointed at load_balancer_dns_name."
  value       = "${local.encrypted ? "https" : "http"}://${aws_lb.this.dns_name}"
}

output "load_balancer_arn" {
  description = "The load balancer."
  value       = aws_lb.this.arn
}

output "load_balancer_dns_name" {
  description = "The load balancer's own name, for an alias record."
  value       = aws_lb.this.dns_name
}

output "load_balancer_zone_id" {
  description = "The load balancer's hosted zone, for an alias record."
  value       = aws_lb.this.zone_id
}

output "target_group_arn" {
  description = "The target group."
  value       = aws_lb_target_group.this.arn
}

output "auto_scaling_group_name" {
  description = "The Auto Scaling group, or null with an EC2 Fleet."
  value       = one(aws_autoscaling_group.this[*].name)
}

output "ec2_fleet_id" {
  description = "The EC2 Fleet, or null with an Auto Scaling group."
  value       = one(aws_ec2_fleet.this[*].id)
}

output "launch_template_id" {
  description = "The launch template."
  value       = aws_launch_template.this.id
}

output "security_group_id" {
  description = "The instances' security group, to let them reach a database, for instance."
  value       = aws_security_group.instances.id
}

output "role_name" {
  description = "The instances' role, to attach your service's own policies to."
  value       = aws_iam_role.this.name
}

output "policy_json" {
  description = "The policy that spot-relay has, as `spot-relay policy` prints it."
  value       = local.policy
}

output "config" {
  description = "What the launch template writes to /etc/spot-relay/config.toml, or null."
  value       = local.config
}

output "interrupt_command" {
  description = "The command that interrupts one Spot instance of the fleet, with fault_injection; else null."
  value       = one([for template in aws_fis_experiment_template.interrupt : "aws fis start-experiment --experiment-template-id ${template.id}"])
}
