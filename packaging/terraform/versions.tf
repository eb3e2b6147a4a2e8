terraform {
  # Validations that refer to other variables need this version.
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source = "hashicorp/aws"
      # Tested with 5.100.
      version = ">= 5.100"
    }
  }
}
