variable "region" {
  description = "The AWS region."
  type        = string
  default     = "eu-west-1"
}

variable "name" {
  description = "The fleet's name."
  type        = string
  default     = "web"
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "public_subnet_ids" {
  description = "Subnets of the load balancer."
  type        = list(string)
}

variable "private_subnet_ids" {
  description = "Subnets of the instances, with a way to AWS's endpoints (a NAT gateway or VPC endpoints)."
  type        = list(string)
}

variable "image_id" {
  description = "The baked image."
  type        = string
}
