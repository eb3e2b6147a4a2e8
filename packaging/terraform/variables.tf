# The user's decisions. Everything else follows from them, and outputs.tf shows it.

variable "name" {
  description = "Name of the fleet and beginning of every name in it."
  type        = string

  validation {
    condition     = can(regex("^[a-zA-Z][a-zA-Z0-9-]{0,24}[a-zA-Z0-9]$", var.name)) && !startswith(var.name, "internal-")
    error_message = "name: 2 to 26 letters, digits and hyphens, a letter first, no hyphen last, and not internal-...: a load balancer bears it."
  }
}

variable "tags" {
  description = "Tags for everything, the instances and their volumes included."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key in keys(var.tags) : can(regex("^[a-zA-Z0-9+=.,_:@-]{1,128}$", key)) && !startswith(key, "aws:")])
    error_message = "tags: letters, digits and + - = . , _ : @ only: an instance that shows its tags in the metadata cannot start with a space or a slash in a key."
  }
}

# The network.

variable "vpc_id" {
  description = "The VPC of the load balancer and the instances."
  type        = string
}

variable "load_balancer_subnet_ids" {
  description = "Subnets of the load balancer, one a zone, at least two: public ones unless it is internal."
  type        = list(string)

  validation {
    condition     = length(toset(var.load_balancer_subnet_ids)) >= 2
    error_message = "load_balancer_subnet_ids: at least two, in different zones."
  }
}

variable "instance_subnet_ids" {
  description = "Subnets of the instances, at least two in different zones, each a zone of the load balancer; for an EC2 Fleet one a zone. A Spot interruption takes instances of one pool, which is one type in one zone."
  type        = list(string)

  validation {
    condition     = length(toset(var.instance_subnet_ids)) >= 2
    error_message = "instance_subnet_ids: at least two, in different zones: where the pool of one zone is reclaimed, the successor comes from another."
  }
}

variable "ingress_cidr_blocks" {
  description = "IPv4 ranges that reach the load balancer, [\"0.0.0.0/0\"] for everybody."
  type        = list(string)

  validation {
    condition     = length(var.ingress_cidr_blocks) > 0 && alltrue([for block in var.ingress_cidr_blocks : can(cidrhost(block, 0))])
    error_message = "ingress_cidr_blocks: at least one IPv4 range such as 203.0.113.0/24."
  }
}

variable "egress_ports" {
  description = "TCP ports on which the instances reach the world: 443 for AWS's endpoints (spot-relay needs them, in the region), 80 for most package repositories."
  type        = set(number)
  default     = [80, 443]

  validation {
    condition     = contains(var.egress_ports, 443)
    error_message = "egress_ports: 443 has to be among them: spot-relay asks AWS over HTTPS."
  }
}

variable "security_group_ids" {
  description = "Further security groups of the instances, beside the module's own."
  type        = list(string)
  default     = []
}

# The load balancer.

variable "load_balancer_type" {
  description = "\"application\" (ALB) or \"network\" (NLB). Behind an NLB new connections come for minutes after the deregistration: keep listening to the end."
  type        = string
  default     = "application"

  validation {
    condition     = contains(["application", "network"], var.load_balancer_type)
    error_message = "load_balancer_type: \"application\" or \"network\"."
  }
}

variable "internal" {
  description = "Whether the load balancer has private addresses only."
  type        = bool
  default     = false
}

variable "certificate_arn" {
  description = "ACM certificate: the load balancer then serves TLS on 443 (an ALB redirects port 80 to it). Without one it serves port 80 in the clear."
  type        = string
  default     = null

  validation {
    condition     = var.certificate_arn == null || can(regex("^arn:[a-z-]+:(acm|iam):", var.certificate_arn))
    error_message = "certificate_arn: an ARN of ACM or IAM."
  }
}

variable "deletion_protection" {
  description = "Whether AWS refuses to delete the load balancer; `terraform destroy` then fails until it is off."
  type        = bool
  default     = false
}

variable "access_logs_bucket" {
  description = "S3 bucket for the load balancer's access logs; its policy has to let the load balancer write. None without it."
  type        = string
  default     = null
}

variable "target_port" {
  description = "TCP port on which the instances serve."
  type        = number
  default     = 80

  validation {
    condition     = var.target_port >= 1 && var.target_port <= 65535 && floor(var.target_port) == var.target_port
    error_message = "target_port: 1 to 65535."
  }
}

variable "health_check" {
  description = "The target group's health check. The successor is healthy after healthy_threshold times interval: keep the product well below the two minutes of the notice."
  type = object({
    path                = optional(string, "/")
    matcher             = optional(string, "200")
    interval            = optional(number, 10)
    timeout             = optional(number, 5)
    healthy_threshold   = optional(number, 2)
    unhealthy_threshold = optional(number, 2)
  })
  default = {}

  validation {
    condition     = startswith(var.health_check.path, "/")
    error_message = "health_check.path begins with a slash."
  }
  validation {
    condition     = var.health_check.interval >= 5 && var.health_check.timeout < var.health_check.interval
    error_message = "health_check: the interval is at least 5 seconds, and the timeout shorter than the interval."
  }
  validation {
    condition     = var.health_check.healthy_threshold >= 2 && var.health_check.unhealthy_threshold >= 2
    error_message = "health_check: each threshold is at least 2."
  }
  validation {
    condition     = var.health_check.healthy_threshold * var.health_check.interval <= 60
    error_message = "health_check: healthy_threshold times interval is at most 60 seconds, or no successor is healthy within the notice."
  }
}

variable "deregistration_delay" {
  description = "Seconds that the load balancer lets a deregistered instance finish its requests. At most 100: what is longer than the notice (two minutes less spot-relay's own reserve) is cut off by it."
  type        = number
  default     = 60

  validation {
    condition     = var.deregistration_delay >= 0 && var.deregistration_delay <= 100
    error_message = "deregistration_delay: 0 to 100 seconds: the notice comes two minutes before the end, and the last ten seconds are kept in reserve."
  }
}

variable "target_group_arns" {
  description = "Further target groups of the instances, beside the module's own. spot-relay takes an instance out of all of them."
  type        = list(string)
  default     = []
}

# The instances.

variable "image_id" {
  description = "The AMI. With spot-relay and your service in it (packaging/ami) an instance needs nothing more; else see package and user_data."
  type        = string

  validation {
    condition     = startswith(var.image_id, "ami-")
    error_message = "image_id: ami-..."
  }
}

variable "instance_types" {
  description = "Instance types, all of the image's architecture. The more types times zones, the more pools a successor can come from, and the rarer the interruptions."
  type        = list(string)

  validation {
    condition     = length(toset(var.instance_types)) >= 2
    error_message = "instance_types: at least two: each is a Spot pool of its own in each zone."
  }
}

variable "key_name" {
  description = "EC2 key pair for SSH. None is needed: the role lets Session Manager in if session_manager is true."
  type        = string
  default     = null
}

variable "session_manager" {
  description = "Whether the instances' role has AmazonSSMManagedInstanceCore, so that `aws ssm start-session` reaches them without SSH."
  type        = bool
  default     = false
}

variable "root_volume_size" {
  description = "GiB of the root volume (gp3, encrypted); at least the image's own size, which is 8 for Amazon Linux 2023, Debian and Ubuntu."
  type        = number
  default     = 8
}

variable "root_device_name" {
  description = "The image's root device: /dev/xvda for Amazon Linux and Debian, /dev/sda1 for Ubuntu."
  type        = string
  default     = "/dev/xvda"
}

variable "package" {
  description = "A spot-relay package (.deb or .rpm, as the image wants) to install at the first boot, with its SHA-256. The URL may be presigned; it is in the user data then, which everybody on the instance can read. Leave it out where the image has spot-relay."
  type = object({
    url    = string
    sha256 = string
  })
  default = null

  validation {
    condition     = var.package == null ? true : can(regex("^https?://[^'?# ]+[.](deb|rpm)([?#][^' ]*)?$", var.package.url))
    error_message = "package.url: https://... and a name that ends in .deb or .rpm; the query of a presigned URL may follow."
  }
  validation {
    condition     = var.package == null ? true : can(regex("^[0-9a-f]{64}$", var.package.sha256))
    error_message = "package.sha256: 64 hexadecimal digits, as sha256sum prints."
  }
}

variable "config" {
  description = "Text of /etc/spot-relay/config.toml. The permissions follow it: pass it here too where the image has it already. Left out, an Auto Scaling group's instances need none (spot-relay finds out everything itself), and an EC2 Fleet's get one that registers each instance in the target group."
  type        = string
  default     = null

  validation {
    condition     = var.config == null ? true : can(regex("\\S", var.config))
    error_message = "config: leave it out rather than empty."
  }
}

variable "user_data" {
  description = "Your own first boot: a script (#!...) or a cloud-config (#cloud-config). It runs after spot-relay's configuration is written."
  type        = string
  default     = null

  validation {
    condition     = var.user_data == null ? true : can(regex("^#(!|cloud-config)", var.user_data))
    error_message = "user_data: begins with #! or #cloud-config."
  }
}

# The owner, which launches and replaces the instances.

variable "owner" {
  description = "\"auto-scaling-group\", or \"ec2-fleet\" (of type maintain). A group is the better choice for nearly everybody: it registers its instances, scales, and needs fewer rights."
  type        = string
  default     = "auto-scaling-group"

  validation {
    condition     = contains(["auto-scaling-group", "ec2-fleet"], var.owner)
    error_message = "owner: \"auto-scaling-group\" or \"ec2-fleet\"."
  }
}

variable "capacity" {
  description = "Instances. desired is what an EC2 Fleet keeps; a group keeps it between min and max, and without it starts at min and leaves the rest to your scaling policies. max above desired leaves room to take back a survivor."
  type = object({
    min     = optional(number, 2)
    desired = optional(number)
    max     = optional(number, 6)
  })
  default = {}

  validation {
    condition     = var.capacity.min >= 0 && var.capacity.min < var.capacity.max
    error_message = "capacity: min is less than max: a survivor that comes back, and a successor that is launched first, need room for one more."
  }
  validation {
    condition     = var.capacity.desired == null ? true : var.capacity.min <= var.capacity.desired && var.capacity.desired < var.capacity.max
    error_message = "capacity: desired is at least min, and less than max: a survivor that comes back, and a successor that is launched first, need room for one more."
  }
}

variable "on_demand_base" {
  description = "How many instances are On-Demand; the rest is Spot."
  type        = number
  default     = 0

  validation {
    condition     = var.on_demand_base >= 0 && var.on_demand_base <= coalesce(var.capacity.desired, var.capacity.min)
    error_message = "on_demand_base: between 0 and the number of instances."
  }
}

variable "capacity_rebalancing" {
  description = "Whether the owner launches a replacement by itself at a rebalance recommendation. spot-relay then asks for none. Off, spot-relay has the successor launched at the notice: fewer launches, because most recommendations come to nothing."
  type        = bool
  default     = false
}

variable "termination_hook" {
  description = "Seconds (30 to 7200) for which the group's termination hook holds a terminating instance until spot-relay completes it; also at scale-in. Without it spot-relay detaches the instance at a notice, and an instance taken at scale-in is drained by the group for deregistration_delay only."
  type        = number
  default     = null

  validation {
    condition     = var.termination_hook == null ? true : var.termination_hook >= 30 && var.termination_hook <= 7200
    error_message = "termination_hook: 30 to 7200 seconds."
  }
  validation {
    condition     = var.termination_hook == null || var.owner == "auto-scaling-group"
    error_message = "termination_hook: only an Auto Scaling group has one."
  }
}

variable "health_check_grace_period" {
  description = "Seconds after the launch in which the group does not take a failed health check for the end of an instance."
  type        = number
  default     = 120
}

variable "fault_injection" {
  description = "Whether there is an experiment of AWS Fault Injection Service that interrupts one Spot instance of the fleet: a real notice, by the command in the output interrupt_command."
  type        = bool
  default     = false
}
