"""What a member's sidecar is told, decided without starting anything: wiring, hosts, warnings."""

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from meshml_dbx.errors import EnvoyError, LogFolderError, PortTakenError, UnknownNameError
from meshml_dbx.member import (
    Serving,
    direct_hosts,
    explained,
    lacks_package,
    plan_client,
    plan_node,
    python_of,
    warnings_before,
)
from meshml_dbx.mesh.load import LoadedMesh, read_mesh
from meshml_dbx.settings import Settings, prepare_state, read_settings
from tests.free_ports import free_port
from tests.small_mesh import make_mesh


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The settings of a folder with the small mesh in it."""
    made = make_mesh(tmp_path)
    return read_settings({}, mesh=made.file, state=made.state)


@pytest.fixture
def loaded(settings: Settings) -> LoadedMesh:
    """The small mesh."""
    return read_mesh(settings.mesh)


def ports_of(loaded: LoadedMesh) -> dict[str, int]:
    """Where each node's peers reach it."""
    assert loaded.mesh is not None
    nodes = loaded.mesh.virtual_nodes
    return {it.virtual_node_name: it.spec.listeners[0].port_mapping.port for it in nodes}


# --- plans ------------------------------------------------------------------------------------


def test_a_client_has_a_proxy_and_nothing_to_serve(settings: Settings, loaded: LoadedMesh) -> None:
    """One listener, on this machine alone, at the port that the program is told."""
    plan = plan_client(settings, loaded, "job", ["python", "train.py"])
    ((bind, port),) = plan.listens
    assert (plan.client, plan.virtual_node, plan.observer) == ("job", None, "egress")
    assert (plan.command, plan.environment) == (("python", "train.py"), "test")
    assert plan.program_environment["http_proxy"].endswith(f"@{bind}:{port}")
    assert "PORT" not in plan.program_environment
    assert plan.mesh_document == settings.mesh.read_text()


def test_a_node_without_backends_has_no_proxy(settings: Settings, loaded: LoadedMesh) -> None:
    """It only serves: its program keeps the proxies that it has."""
    plan = plan_node(settings, loaded, "labels", Serving(app_port=9, bind="127.0.0.3"))
    assert plan.listens == (("127.0.0.3", ports_of(loaded)["labels"]),)
    assert (plan.client, plan.virtual_node, plan.observer) == (None, "labels", "ingress")
    assert [name for name in plan.program_environment if "proxy" in name.lower()] == []
    assert plan.program_environment["PORT"] == "9"


def test_a_node_with_backends_has_a_proxy_too(settings: Settings, loaded: LoadedMesh) -> None:
    """Its own port for peers, and one on this machine for its program's calls."""
    plan = plan_node(settings, loaded, "relay", Serving(bind="127.0.0.3"))
    (peers, (bind, port)) = plan.listens
    assert (peers, bind) == (("127.0.0.3", ports_of(loaded)["relay"]), "127.0.0.1")
    assert plan.program_environment["http_proxy"].endswith(f":{port}")


def test_two_sidecars_of_one_member_share_nothing_that_tells_them_apart(
    settings: Settings, loaded: LoadedMesh
) -> None:
    """Each has an id, a process and a token of its own."""
    plans = [plan_client(settings, loaded, "job", ["true"]) for _ in range(2)]
    assert len({plan.sidecar_id for plan in plans}) == 2
    assert len({plan.process_id for plan in plans}) == 2
    assert len({plan.program_environment["http_proxy"] for plan in plans}) == 2


def test_the_token_is_in_no_repr(settings: Settings, loaded: LoadedMesh) -> None:
    """A plan can be printed, logged or shown by a failing test."""
    plan = plan_client(settings, loaded, "job", ["true"])
    token = plan.program_environment["http_proxy"].partition("meshml:")[2].partition("@")[0]
    assert len(token) >= 32
    assert token not in repr(plan)


def test_a_port_that_the_program_wants_must_be_free(settings: Settings, loaded: LoadedMesh) -> None:
    """Only where meshml starts the program: somebody else's is expected to be there already."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        plan_node(settings, loaded, "labels", Serving(app_port=port))
        with pytest.raises(PortTakenError, match=str(port)):
            plan_node(settings, loaded, "labels", Serving(app_port=port, command=("true",)))


def test_an_unknown_member_is_refused(settings: Settings, loaded: LoadedMesh) -> None:
    """The message has the name that was meant."""
    with pytest.raises(UnknownNameError, match="did you mean job"):
        plan_client(settings, loaded, "jobs", ["true"])


# --- the program's world ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "localhost,127.0.0.1,::1"),
        ({"no_proxy": "a.corp"}, "a.corp,localhost,127.0.0.1,::1"),
        ({"NO_PROXY": "a", "no_proxy": "b, a,,"}, "a,b,localhost,127.0.0.1,::1"),
        ({"MLFLOW_TRACKING_URI": "http://m.corp:5000"}, "localhost,127.0.0.1,::1,m.corp"),
        ({"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}, "localhost,127.0.0.1,::1"),
        ({"MLFLOW_TRACKING_URI": "databricks"}, "localhost,127.0.0.1,::1"),
    ],
)
def test_direct_hosts(settings: Settings, environ: Mapping[str, str], expected: str) -> None:
    """The user's own first, in both spellings; a store that is no server adds none."""
    assert direct_hosts(settings, environ) == expected


def test_the_option_beats_the_variable(tmp_path: Path) -> None:
    """The tracking server that is used is the one that is not proxied."""
    settings = read_settings({}, state=tmp_path, tracking="https://option.corp")
    found = direct_hosts(settings, {"MLFLOW_TRACKING_URI": "https://variable.corp"})
    assert found.endswith(",option.corp")


# --- warnings ---------------------------------------------------------------------------------


def test_an_interpreter_that_has_the_package_lacks_nothing() -> None:
    """This one has it; a program that is no Python is not asked; one that is missing neither."""
    assert not lacks_package([sys.executable, "train.py"])
    assert not lacks_package(["sh", "-c", "true"])
    assert not lacks_package(["no-such-program"])
    assert not lacks_package([])


@pytest.mark.parametrize(
    ("name", "first", "expected"),
    [
        ("tool", "#!/opt/x/bin/python3.11", "/opt/x/bin/python3.11"),
        ("tool", "#! /opt/x/bin/python -s", "/opt/x/bin/python"),
        ("tool", "#!/usr/bin/env no-such-python", None),
        ("tool", "#!/usr/bin/env -S sh python", None),
        ("tool", "#!/bin/sh", None),
        ("tool", "\x7fELF", None),
        ("tool", "", None),
        ("python3.11", "\x7fELF", "{path}"),
    ],
)
def test_the_python_of_a_program(
    tmp_path: Path, name: str, first: str, expected: str | None
) -> None:
    """By its name, or by the first line of a script; console scripts are scripts."""
    path = tmp_path / name
    path.write_text(f"{first}\n")
    assert python_of(path) == (expected and expected.format(path=path))


def test_the_python_that_a_script_asks_the_path_for(tmp_path: Path) -> None:
    """``env`` looks it up, and so does this."""
    script = tmp_path / "tool"
    script.write_text(f"#!/usr/bin/env -S {Path(sys.executable).name} -u\n")
    found = python_of(script)
    assert found is not None
    assert Path(found).name == Path(sys.executable).name


def test_nodes_are_not_warned_about_proxies(settings: Settings, loaded: LoadedMesh) -> None:
    """Only a client's own calls are what ``meshml run`` records for a run."""
    plan = plan_node(settings, loaded, "labels", Serving(app_port=free_port()))
    assert warnings_before(plan, {"https_proxy": "http://proxy.corp:3128"}) == []


# --- refusals ---------------------------------------------------------------------------------


def test_envoys_own_reason_is_kept(loaded: LoadedMesh) -> None:
    """Where no place in the mesh file is known, the file is named."""
    error = explained(EnvoyError("Envoy refused its listeners (lds): no"), loaded)
    assert error.message == "Envoy refused its listeners (lds): no"
    assert error.advice == f"look for it in {loaded.source}"


# --- the state folder -------------------------------------------------------------------------


def test_the_state_folder_is_made_once(tmp_path: Path) -> None:
    """It ignores itself in git; what the user wrote into that file stays."""
    state = tmp_path / "deep" / "state"
    prepare_state(state)
    assert (state / ".gitignore").read_text() == "*\n"
    (state / ".gitignore").write_text("logs\n")
    prepare_state(state)
    assert (state / ".gitignore").read_text() == "logs\n"


def test_a_state_folder_that_cannot_be(tmp_path: Path) -> None:
    """The error names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(LogFolderError, match="cannot use the state folder"):
        prepare_state(tmp_path / "file" / "state")
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208  # names alone
