terraform {
  # Validations that look at other variables.
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source = "hashicorp/aws"
      # Tested with 5.100.
      version = ">= 5.100"
    }
  }
}
