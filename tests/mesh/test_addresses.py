"""Which addresses a mesh has names for: its services' own, and its nodes'."""

import pytest

from meshml_dbx.mesh.addresses import named_addresses
from tests.mesh.ml_example import EVERY_FIELD, changed, example_mesh, mesh_of

SERVICE = "labels.ml.local"


def test_a_service_is_known_by_its_name() -> None:
    """Whichever of its nodes answers: the name alone does not tell."""
    assert named_addresses(example_mesh())[SERVICE] == (SERVICE, None)


@pytest.mark.parametrize(("port", "node"), [(18081, "labels-v1"), (18082, "labels-v2")])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_nodes_own_address_is_its_services(host: str, port: int, node: str) -> None:
    """A program that calls a node past the mesh calls its service all the same."""
    assert named_addresses(example_mesh())[f"{host}:{port}"] == (SERVICE, node)


def test_nothing_else_is_known() -> None:
    """Every entry is a service's name or a node's address."""
    hosts = ("localhost:18081", "localhost:18082", "127.0.0.1:18081", "127.0.0.1:18082")
    assert set(named_addresses(example_mesh())) == {SERVICE, *hosts}


@pytest.mark.parametrize("port", [80, 443])
def test_a_schemes_own_port_is_left_out_as_calls_leave_it_out(port: int) -> None:
    """``https://labels.corp:443/`` and ``https://labels.corp/`` are one address."""
    text = changed("port: 18081", f"port: {port}").replace("localhost", "Labels.corp")
    found = named_addresses(mesh_of(text))
    assert found["labels.corp"] == (SERVICE, "labels-v1")
    assert found["labels.corp:18082"] == (SERVICE, "labels-v2")
    assert f"labels.corp:{port}" not in found


def test_a_routers_other_port_belongs_to_the_name() -> None:
    """A service that answers by another port is known with it."""
    text = changed(
        "portMapping: {port: 80, protocol: http}", "portMapping: {port: 9000, protocol: http}"
    )
    found = named_addresses(mesh_of(text))
    assert found[f"{SERVICE}:9000"] == found[SERVICE] == (SERVICE, None)


def test_a_node_without_a_host_has_no_address() -> None:
    """What has no service discovery cannot be called past the mesh."""
    text = changed("      serviceDiscovery: {dns: {hostname: localhost}}\n", "", occurrence=2)
    found = named_addresses(mesh_of(text))
    assert [address for address in found if "18082" in address] == []


def test_a_node_of_two_services_is_the_first_ones() -> None:
    """One answer, and always the same."""
    more = (
        "  - virtualServiceName: also.ml.local\n"
        "    spec: {provider: {virtualNode: {virtualNodeName: labels-v1}}}\n"
    )
    found = named_addresses(mesh_of(changed("virtualServices:\n", "virtualServices:\n" + more)))
    assert found["localhost:18081"] == ("also.ml.local", "labels-v1")
    assert found["localhost:18082"] == (SERVICE, "labels-v2")


def test_a_node_that_is_named_like_a_service_is_the_service() -> None:
    """Its name stands for all its nodes, so no one of them is told."""
    text = changed("port: 18081", "port: 80").replace("localhost", SERVICE)
    assert named_addresses(mesh_of(text))[SERVICE] == (SERVICE, None)


def test_a_mesh_with_every_field_is_understood() -> None:
    """Every kind of provider, discovery and listener has a place or none, and none fails."""
    found = named_addresses(mesh_of(EVERY_FIELD.read_text(encoding="utf-8")))
    mesh = mesh_of(EVERY_FIELD.read_text(encoding="utf-8"))
    names = {service.virtual_service_name for service in mesh.virtual_services}
    assert {service for service, _ in found.values()} == names
