variable "name" {}

resource "aws_appmesh_mesh" "this" {
  name = var.name
}

output "name" {
  value = aws_appmesh_mesh.this.name
}
