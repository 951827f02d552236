variable "stage" {
  type        = string
  description = "Where the mesh runs"
}

variable "services" {
  description = "The programs behind the mesh: their port, protocol and what they call"
  type = map(object({
    port     = number
    protocol = string
    calls    = list(string)
  }))
  default = {
    features = { port = 9090, protocol = "grpc", calls = [] }
    labels   = { port = 8080, protocol = "http", calls = ["features"] }
  }
}

variable "canary_weight" {
  type    = number
  default = "10"
}

variable "with_gateway" {
  type    = bool
  default = false
}

variable "alert_mail" {
  type    = string
  default = "mesh@example.com"
}
