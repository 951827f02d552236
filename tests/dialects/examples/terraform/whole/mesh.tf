# The mesh of a team that serves features and scores, with one resource of every type.

terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.0"
    }
  }
}

resource "aws_appmesh_mesh" "ml" {
  name = "ml"

  spec {
    egress_filter {
      type = "ALLOW_ALL"
    }
    service_discovery {
      ip_preference = "IPv4_PREFERRED"
    }
  }

  tags = {
    team  = "ranking"
    stage = "test"
  }
}

resource "aws_service_discovery_private_dns_namespace" "ml" {
  name = "ml.local"
  vpc  = "vpc-0a1b2c"
}

resource "aws_appmesh_virtual_node" "labels" {
  name       = "labels"
  mesh_name  = aws_appmesh_mesh.ml.id
  mesh_owner = "111122223333"

  spec {
    listener {
      port_mapping {
        port     = 8080
        protocol = "http"
      }
      timeout {
        http {
          idle {
            unit  = "s"
            value = 60
          }
          per_request {
            unit  = "ms"
            value = 2500
          }
        }
      }
      health_check {
        healthy_threshold   = 2
        unhealthy_threshold = 3
        interval_millis     = 5000
        timeout_millis      = 2000
        path                = "/healthy"
        protocol            = "http"
      }
      connection_pool {
        http {
          max_connections      = 20
          max_pending_requests = 100
        }
      }
      outlier_detection {
        max_server_errors    = 5
        max_ejection_percent = 50
        interval {
          unit  = "s"
          value = 10
        }
        base_ejection_duration {
          unit  = "s"
          value = 30
        }
      }
      tls {
        mode = "STRICT"
        certificate {
          acm {
            certificate_arn = "arn:aws:acm:eu-west-1:111122223333:certificate/5c1e"
          }
        }
        validation {
          trust {
            file {
              certificate_chain = "/keys/callers.pem"
            }
          }
          subject_alternative_names {
            match {
              exact = ["scorer.ml.local", "trainer.ml.local"]
            }
          }
        }
      }
    }

    listener {
      port_mapping {
        port     = 9090
        protocol = "grpc"
      }
    }

    service_discovery {
      aws_cloud_map {
        namespace_name = aws_service_discovery_private_dns_namespace.ml.name
        service_name   = "labels"
        attributes = {
          colour = "blue"
          stage  = "test"
        }
      }
    }

    logging {
      access_log {
        file {
          path = "/dev/stdout"
          format {
            json {
              key   = "start"
              value = "%START_TIME%"
            }
            json {
              key   = "code"
              value = "%RESPONSE_CODE%"
            }
          }
        }
      }
    }
  }
}

resource "aws_appmesh_virtual_node" "scorer" {
  name      = "scorer"
  mesh_name = aws_appmesh_mesh.ml.id

  spec {
    listener {
      port_mapping {
        port     = 8443
        protocol = "http2"
      }
    }

    backend {
      virtual_service {
        virtual_service_name = aws_appmesh_virtual_service.labels.name
        client_policy {
          tls {
            enforce = false
            ports   = [8080, 9090]
            certificate {
              file {
                certificate_chain = "/keys/scorer.pem"
                private_key       = "/keys/scorer.key"
              }
            }
            validation {
              trust {
                acm {
                  certificate_authority_arns = [
                    "arn:aws:acm-pca:eu-west-1:111122223333:certificate-authority/9f2d",
                  ]
                }
              }
            }
          }
        }
      }
    }

    backend {
      virtual_service {
        virtual_service_name = "features.ml.local"
      }
    }

    backend_defaults {
      client_policy {
        tls {
          validation {
            trust {
              sds {
                secret_name = "authority"
              }
            }
          }
        }
      }
    }

    service_discovery {
      dns {
        hostname      = "scorer.${aws_service_discovery_private_dns_namespace.ml.name}"
        response_type = "ENDPOINTS"
        ip_preference = "IPv6_PREFERRED"
      }
    }

    logging {
      access_log {
        file {
          path = "/dev/stdout"
          format {
            text = <<-EOT
              %START_TIME% %RESPONSE_CODE%
            EOT
          }
        }
      }
    }
  }
}

resource "aws_appmesh_virtual_node" "features" {
  name      = "features"
  mesh_name = aws_appmesh_mesh.ml.id

  spec {
    listener {
      port_mapping {
        port     = 6379
        protocol = "tcp"
      }
      timeout {
        tcp {
          idle {
            unit  = "s"
            value = 0
          }
        }
      }
    }
    service_discovery {
      dns {
        hostname = "features.ml.local"
      }
    }
  }
}

resource "aws_appmesh_virtual_router" "labels" {
  name      = "labels"
  mesh_name = aws_appmesh_mesh.ml.id

  spec {
    listener {
      port_mapping {
        port     = 8080
        protocol = "http"
      }
    }
  }
}

resource "aws_appmesh_route" "cohort" {
  name                = "cohort-b"
  mesh_name           = aws_appmesh_mesh.ml.id
  virtual_router_name = aws_appmesh_virtual_router.labels.name

  spec {
    priority = 10
    http_route {
      match {
        prefix = "/v1"
        method = "GET"
        scheme = "http"
        port   = 8080
        header {
          name = "x-cohort"
          match {
            exact = "b"
          }
        }
        header {
          name   = "x-build"
          invert = true
          match {
            range {
              start = 100
              end   = 200
            }
          }
        }
        query_parameter {
          name = "trace"
          match {
            exact = "on"
          }
        }
      }
      action {
        weighted_target {
          virtual_node = aws_appmesh_virtual_node.labels.name
          weight       = 90
          port         = 8080
        }
        weighted_target {
          virtual_node = aws_appmesh_virtual_node.scorer.name
          weight       = 10
        }
      }
      retry_policy {
        max_retries       = 2
        http_retry_events = ["server-error", "gateway-error"]
        tcp_retry_events  = ["connection-error"]
        per_retry_timeout {
          unit  = "ms"
          value = 500
        }
      }
      timeout {
        per_request {
          unit  = "s"
          value = 2
        }
      }
    }
  }
}

resource "aws_appmesh_route" "rest" {
  name                = "rest"
  mesh_name           = aws_appmesh_mesh.ml.id
  virtual_router_name = aws_appmesh_virtual_router.labels.name

  spec {
    http2_route {
      match {
        path {
          regex = "/v[0-9]+/.*"
        }
      }
      action {
        weighted_target {
          virtual_node = aws_appmesh_virtual_node.labels.name
          weight       = 1
        }
      }
    }
  }
}

resource "aws_appmesh_route" "calls" {
  name                = "calls"
  mesh_name           = aws_appmesh_mesh.ml.id
  virtual_router_name = aws_appmesh_virtual_router.labels.name

  spec {
    grpc_route {
      match {
        service_name = "labels.Labels"
        method_name  = "Get"
        metadata {
          name = "x-tier"
          match {
            prefix = "gold"
          }
        }
      }
      action {
        weighted_target {
          virtual_node = aws_appmesh_virtual_node.labels.name
          weight       = 1
          port         = 9090
        }
      }
      retry_policy {
        max_retries       = 1
        grpc_retry_events = ["unavailable"]
        per_retry_timeout {
          unit  = "s"
          value = 1
        }
      }
    }
  }
}

resource "aws_appmesh_route" "store" {
  name                = "store"
  mesh_name           = aws_appmesh_mesh.ml.id
  virtual_router_name = aws_appmesh_virtual_router.labels.name

  spec {
    tcp_route {
      action {
        weighted_target {
          virtual_node = aws_appmesh_virtual_node.features.name
          weight       = 100
        }
      }
      timeout {
        idle {
          unit  = "s"
          value = 120
        }
      }
    }
  }
}

resource "aws_appmesh_virtual_service" "labels" {
  name      = "labels.ml.local"
  mesh_name = aws_appmesh_mesh.ml.id

  spec {
    provider {
      virtual_router {
        virtual_router_name = aws_appmesh_virtual_router.labels.name
      }
    }
  }
}

resource "aws_appmesh_virtual_service" "features" {
  name      = "features.ml.local"
  mesh_name = aws_appmesh_mesh.ml.id

  spec {
    provider {
      virtual_node {
        virtual_node_name = aws_appmesh_virtual_node.features.name
      }
    }
  }
}

resource "aws_appmesh_virtual_gateway" "edge" {
  name      = "edge"
  mesh_name = aws_appmesh_mesh.ml.id

  spec {
    listener {
      port_mapping {
        port     = 8088
        protocol = "http"
      }
      connection_pool {
        http2 {
          max_requests = 64
        }
      }
    }
    logging {
      access_log {
        file {
          path = "/dev/stdout"
        }
      }
    }
  }
}

resource "aws_appmesh_gateway_route" "labels" {
  name                 = "labels"
  mesh_name            = aws_appmesh_mesh.ml.id
  virtual_gateway_name = aws_appmesh_virtual_gateway.edge.name

  spec {
    priority = 5
    http_route {
      match {
        prefix = "/labels/"
        port   = 8088
        hostname {
          suffix = ".example.com"
        }
        header {
          name = "x-key"
        }
      }
      action {
        target {
          port = 8080
          virtual_service {
            virtual_service_name = aws_appmesh_virtual_service.labels.name
          }
        }
        rewrite {
          hostname {
            default_target_hostname = "DISABLED"
          }
          prefix {
            value = "/v1/"
          }
        }
      }
    }
  }
}

resource "aws_appmesh_gateway_route" "calls" {
  name                 = "calls"
  mesh_name            = aws_appmesh_mesh.ml.id
  virtual_gateway_name = aws_appmesh_virtual_gateway.edge.name

  spec {
    grpc_route {
      match {
        service_name = "labels.Labels"
      }
      action {
        target {
          virtual_service {
            virtual_service_name = aws_appmesh_virtual_service.labels.name
          }
        }
      }
    }
  }
}
