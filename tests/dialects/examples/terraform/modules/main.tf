module "mesh" {
  source = "./mesh"
  name   = "ml"
}

module "labels" {
  source   = "./service"
  for_each = toset(["labels", "features"])

  name = each.key
  mesh = module.mesh.name
  port = 8080
}

module "alarms" {
  source  = "terraform-aws-modules/cloudwatch/aws"
  version = "5.0.0"
}

resource "aws_appmesh_virtual_service" "labels" {
  name      = "labels.local"
  mesh_name = module.mesh.name

  spec {
    provider {
      virtual_node {
        virtual_node_name = module.labels["labels"].node
      }
    }
  }
}
