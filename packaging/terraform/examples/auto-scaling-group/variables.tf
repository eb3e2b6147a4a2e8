variable "region" {
  description = "The AWS region."
  type        = string
  default     = "eu-west-1"
}

variable "name" {
  description = "The fleet's name."
  type        = string
  default     = "spot-relay-tutorial"
}

variable "ingress_cidr_blocks" {
  description = "Who may look: your own address as a /32 is enough."
  type        = list(string)
}

variable "package_url" {
  description = "Where the instances find spot-relay's .rpm."
  type        = string
}

variable "package_sha256" {
  description = "Its SHA-256."
  type        = string
}
