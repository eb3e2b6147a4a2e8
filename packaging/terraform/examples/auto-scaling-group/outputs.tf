output "url" {
  description = "The page that says which instance answered."
  value       = module.fleet.url
}

output "auto_scaling_group_name" {
  description = "The Auto Scaling group."
  value       = module.fleet.auto_scaling_group_name
}

output "target_group_arn" {
  description = "The target group."
  value       = module.fleet.target_group_arn
}

output "policy_json" {
  description = "What spot-relay may do on the instances."
  value       = module.fleet.policy_json
}

output "interrupt_command" {
  description = "Interrupts one of the instances: a real notice."
  value       = module.fleet.interrupt_command
}
