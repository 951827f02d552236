"""``meshml plan`` as a user types it."""

import json

from tests.small_mesh import SmallMesh


def test_the_plan_is_a_table_of_steps_with_open_values_and_a_price(mesh: SmallMesh) -> None:
    """Steps on standard output, what is left out on standard error, status 0."""
    done = mesh.meshml("plan", "mesh.yml", "--plane", "lattice")
    assert done.status == 0
    assert " service-network " in done.out
    assert "open: VPC_ID: the VPC in which the targets run" in done.out
    assert "services: 2 services x 730 h x $0.025 = $36.50" in done.out
    assert "lattice-unknown-role" in done.err


def test_traffic_and_hours_make_the_price(mesh: SmallMesh) -> None:
    """Requests and gigabytes of a month, and how many hours it has."""
    done = mesh.meshml("plan", "--traffic", "40000000", "120", "--hours", "100")
    assert "services: 2 services x 100 h x $0.025 = $5.00" in done.out
    assert "data: 120 GB x $0.025 = $3.00" in done.out
    assert "a month: $8.00" in done.out


def test_given_values_are_filled_in(mesh: SmallMesh) -> None:
    """A value that was given stands in the bodies and is open no more."""
    done = mesh.meshml("plan", "--param", "VPC_ID=vpc-0a1b2c3d4e5f60718", "--json")
    document = json.loads(done.out)
    assert "VPC_ID" not in document["unknowns"]
    groups = [step["body"] for step in document["steps"] if step["kind"] == "target-group"]
    assert {body["config"]["vpcIdentifier"] for body in groups} == {"vpc-0a1b2c3d4e5f60718"}


def test_a_value_without_a_name_is_wrong_use(mesh: SmallMesh) -> None:
    """Told as such, with what was typed."""
    done = mesh.meshml("plan", "--param", "vpc-1")
    assert (done.status, "vpc-1 is not NAME=VALUE" in done.err) == (2, True)


def test_a_value_that_nothing_asks_for_is_told(mesh: SmallMesh) -> None:
    """A name with a slip of the pen would else leave its value open without a word."""
    done = mesh.meshml("plan", "--param", "VPCID=vpc-1", "--param", "ACCOUNT_ID=111122223333")
    told = [line for line in done.err.splitlines() if line.startswith("warning: ")]
    assert (done.status, told) == (0, ["warning: --param VPCID: the plan has no such open value"])
    assert "open: VPC_ID:" in done.out
