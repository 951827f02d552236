locals {
  prefix = lower(join("-", ["ML", var.stage]))
  domain = "${local.prefix}.local"
  tags   = merge({ stage = var.stage }, { owner = "ranking" })

  timeouts = {
    dev  = 5
    prod = 2
  }

  codes = [for code in ["server-error", "stream-error", ""] : code if code != ""]
}

resource "aws_appmesh_mesh" "this" {
  name = local.prefix
  tags = local.tags
}

resource "aws_appmesh_virtual_node" "service" {
  for_each = var.services

  name      = each.key
  mesh_name = aws_appmesh_mesh.this.id

  spec {
    listener {
      port_mapping {
        port     = each.value.port
        protocol = each.value.protocol
      }

      dynamic "timeout" {
        for_each = each.value.protocol == "grpc" ? [local.timeouts[var.stage]] : []
        content {
          grpc {
            per_request {
              unit  = "s"
              value = timeout.value * 2
            }
          }
        }
      }
    }

    dynamic "backend" {
      for_each = toset(each.value.calls)
      iterator = callee
      content {
        virtual_service {
          virtual_service_name = format("%s.%s", callee.value, local.domain)
        }
      }
    }

    service_discovery {
      dns {
        hostname = "${each.key}.${local.domain}"
      }
    }
  }
}

resource "aws_appmesh_virtual_node" "canary" {
  count = 2

  name      = "labels-canary-${count.index + 1}"
  mesh_name = aws_appmesh_mesh.this.name

  spec {
    listener {
      port_mapping {
        port     = var.services["labels"].port
        protocol = "http"
      }
    }
    service_discovery {
      dns {
        hostname = "canary-${count.index}.${local.domain}"
      }
    }
  }
}

resource "aws_appmesh_virtual_router" "labels" {
  name      = "labels"
  mesh_name = aws_appmesh_mesh.this.id
  spec {
    listener {
      port_mapping {
        port     = var.services.labels.port
        protocol = "http"
      }
    }
  }
}

resource "aws_appmesh_route" "labels" {
  name                = "labels"
  mesh_name           = aws_appmesh_mesh.this.id
  virtual_router_name = aws_appmesh_virtual_router.labels.name

  spec {
    http_route {
      match {
        prefix = "/"
      }
      action {
        weighted_target {
          virtual_node = aws_appmesh_virtual_node.service["labels"].name
          weight       = 100 - var.canary_weight
        }
        dynamic "weighted_target" {
          for_each = aws_appmesh_virtual_node.canary[*].name
          content {
            virtual_node = weighted_target.value
            weight       = var.canary_weight / length(aws_appmesh_virtual_node.canary)
          }
        }
      }
      retry_policy {
        max_retries       = try(var.services.labels.retries, 1)
        http_retry_events = local.codes
        per_retry_timeout {
          unit  = "ms"
          value = 250
        }
      }
    }
  }
}

resource "aws_appmesh_virtual_service" "service" {
  for_each = {
    for name, service in var.services : name => service
    if name != "batch"
  }

  name      = "${each.key}.${local.domain}"
  mesh_name = aws_appmesh_mesh.this.id

  spec {
    provider {
      dynamic "virtual_router" {
        for_each = each.key == "labels" ? [aws_appmesh_virtual_router.labels.name] : []
        content {
          virtual_router_name = virtual_router.value
        }
      }
      dynamic "virtual_node" {
        for_each = each.key != "labels" ? [each.key] : []
        content {
          virtual_node_name = aws_appmesh_virtual_node.service[virtual_node.value].name
        }
      }
    }
  }
}

resource "aws_appmesh_virtual_gateway" "edge" {
  count     = var.with_gateway ? 1 : 0
  name      = "edge"
  mesh_name = aws_appmesh_mesh.this.id
  spec {
    listener {
      port_mapping {
        port     = 8088
        protocol = "http"
      }
    }
  }
}

output "mesh" {
  value = aws_appmesh_mesh.this.arn
}
