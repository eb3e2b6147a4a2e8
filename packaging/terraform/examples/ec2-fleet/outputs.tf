output "url" {
  description = "Where the load balancer answers."
  value       = module.fleet.url
}

output "ec2_fleet_id" {
  description = "The EC2 Fleet."
  value       = module.fleet.ec2_fleet_id
}

output "policy_json" {
  description = "What spot-relay may do on the instances."
  value       = module.fleet.policy_json
}

output "config" {
  description = "The instances' /etc/spot-relay/config.toml."
  value       = module.fleet.config
}
