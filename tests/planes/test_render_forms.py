"""A member rendered for compose, ECS and Kubernetes: manifests that hold, and an Envoy that serves.

No container runs here: what a platform does with the manifests is done below a root of the test's
own, with the commands that they hold and a real Envoy.
"""

import base64
import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import botocore.session  # type: ignore[import-untyped]  # ships without types
import pytest
import yaml
from botocore.validate import ParamValidator  # type: ignore[import-untyped]  # as above

from meshml_dbx.errors import EnvoyError, PortTakenError
from meshml_dbx.mesh.spec import Mesh
from meshml_dbx.planes import IdentityPaths
from meshml_dbx.planes.render_elsewhere import envoy_files, render_elsewhere
from meshml_dbx.planes.render_terms import (
    TASK_MARK,
    Form,
    Placement,
    Rendering,
    certificate_files,
    placed_identities,
    wiring_of,
)
from tests.free_ports import free_port
from tests.planes.envoy_mesh import labels_mesh, mesh_of
from tests.planes.envoy_world import identities
from tests.render_lab import (
    call,
    envoy_container,
    envoy_path,
    lines_below,
    mount_config_map,
    mount_of,
    mount_secret,
    plain_environment,
    pod_of,
    program,
    started,
)

CONTAINERS: tuple[Form, ...] = ("compose", "ecs", "kubernetes")
APP_PORT = 9002
POD = {"MESHML_SIDECAR_ID": "churn-7d9f", "MESHML_PROCESS_ID": "uid-1"}
DIRECT = "http://direct.ml.local/v1/labels/7"


def rendering_of(
    mesh: Mesh,
    member: str,
    form: Form,
    sources: Mapping[str, IdentityPaths],
    **fields: object,
) -> Rendering:
    """A member's rendering, as the hall makes it."""
    own = {"sidecar_id": TASK_MARK if form == "ecs" else f"{member}-0a1b2c3d"}
    placement = Placement(form=form, member=member, **{**own, **fields})  # type: ignore[arg-type]
    placed = placed_identities(sources, placement.places.certificates)
    wiring = wiring_of(mesh, placement, placed)
    proxy = {"HTTP_PROXY": f"http://127.0.0.1:{wiring.egress_port}", "ODD": "$(A) ${B} 'c'"}
    return Rendering(
        mesh=mesh,
        placement=placement,
        wiring=wiring,
        variables=proxy,
        certificates=certificate_files(sources),
    )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A trust store of the test's own."""
    return tmp_path / "trust"


def rendered(member: str, form: Form, store: Path, **fields: object) -> dict[str, str]:
    """The files of a member of the labels mesh."""
    mesh = labels_mesh()
    if member.startswith("labels"):
        fields = {"app_ports": {18081: APP_PORT, 18082: APP_PORT}, **fields}
    sources = identities(mesh, member, store)
    return render_elsewhere(rendering_of(mesh, member, form, sources, **fields))


# --- at work ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Laid:
    """What a platform has laid out: Envoy's command, where it runs, and how it is asked."""

    command: list[str]
    folder: Path
    logs: Path
    check: list[str]
    variables: Mapping[str, str] = field(default_factory=dict)


def lay_compose(files: Mapping[str, str], sources: Mapping[str, str], root: Path) -> Laid:
    """Mount what the project's folder has."""
    project = root / "project"
    write(project, files)
    (project / "logs").mkdir()
    (project / "certificates").mkdir()
    for name, source in sources.items():
        shutil.copy(source, project / "certificates" / name)
    service = next(iter(yaml.safe_load(files["compose.yaml"])["services"].values()))
    for mount in service["volumes"]:
        target = Path(mount["target"])
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to((project / mount["source"]).resolve())
    for mount in service["tmpfs"]:
        Path(mount.partition(":")[0]).mkdir(parents=True)
    check = service["healthcheck"]["test"]
    assert check[0] == "CMD"
    return Laid(
        command=service["entrypoint"],
        folder=Path(service["working_dir"]),
        logs=project / "logs",
        check=check[1:],
    )


def lay_ecs(files: Mapping[str, str], sources: Mapping[str, str], root: Path) -> Laid:
    """Run the first container, with the secrets that ECS would give it."""
    task = json.loads(files["task-definition.json"])
    by_name = {it["name"]: it for it in task["containerDefinitions"]}
    first, envoy = by_name["envoy-files"], by_name["envoy"]
    given = {it["name"]: it["value"] for it in first["environment"]}
    keys = [it["valueFrom"].split(":")[-3] for it in first["secrets"]]
    given |= {key: Path(path).read_text() for key, path in zip(keys, sources.values(), strict=True)}
    subprocess.run(
        [*first["entryPoint"], *first["command"]],
        env={**plain_environment(), **given},
        check=True,
        timeout=60,
    )
    logs = next(it for it in envoy["mountPoints"] if it["sourceVolume"] == "logs")
    assert envoy["healthCheck"]["command"][0] == "CMD"
    return Laid(
        command=[*envoy["entryPoint"], *envoy["command"]],
        folder=Path(envoy["workingDirectory"]),
        logs=Path(logs["containerPath"]),
        check=envoy["healthCheck"]["command"][1:],
    )


def lay_kubernetes(files: Mapping[str, str], sources: Mapping[str, str], root: Path) -> Laid:
    """Mount the ConfigMap, the Secret and the pod's own part of the logs' volume."""
    mount_config_map(files)
    mount_secret(files, {name: Path(path).read_text() for name, path in sources.items()})
    container = envoy_container(files)
    mounts = container["volumeMounts"]
    assert isinstance(mounts, list)
    logs = next(it for it in mounts if it["name"] == "envoy-logs")
    own = root / "volume" / logs["subPathExpr"].replace("$(MESHML_SIDECAR_ID)", "churn-7d9f")
    own.mkdir(parents=True)
    Path(logs["mountPath"]).parent.mkdir(parents=True)
    Path(logs["mountPath"]).symlink_to(own)
    ports = {it["name"]: it["containerPort"] for it in container["ports"]}  # type: ignore[attr-defined]
    probe = container["readinessProbe"]
    assert isinstance(probe, dict)
    path, port = probe["httpGet"]["path"], ports[probe["httpGet"]["port"]]
    ask = f"import urllib.request as r; r.urlopen('http://127.0.0.1:{port}{path}')"
    return Laid(
        command=container["command"],  # type: ignore[arg-type]
        folder=Path(str(container["workingDir"])),
        logs=root / "volume",
        check=[sys.executable, "-c", ask],
        variables=POD,
    )


LAY = {"compose": lay_compose, "ecs": lay_ecs, "kubernetes": lay_kubernetes}
NAMES = {"compose": "churn-training-0a1b2c3d", "kubernetes": "churn-7d9f"}


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Put files into a folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def lay(mesh: Mesh, member: str, form: Form, root: Path, store: Path, **fields: object) -> Laid:
    """A member, laid out below a root of its own."""
    sources = identities(mesh, member, store)
    if form != "compose":
        fields["logs_to"] = "s3://bucket/logs"
    files = render_elsewhere(
        rendering_of(mesh, member, form, sources, root=str(root), process_id="p-1", **fields)
    )
    return LAY[form](files, certificate_files(sources), root)


@pytest.mark.envoy
@pytest.mark.parametrize("form", CONTAINERS)
def test_members_of_every_form_speak_mutual_tls(form: Form, tmp_path: Path, store: Path) -> None:
    """What the manifests of a client and of a node hold makes two Envoys that know each other."""
    ports, app = (free_port(), free_port(), free_port()), free_port()
    mesh = labels_mesh(ports)
    ready, egress = [free_port(), free_port()], free_port()
    app_ports = {ports[0]: app}
    node = lay(
        mesh, "labels-v1", form, tmp_path / "n", store, app_ports=app_ports, ready_port=ready[0]
    )
    client = lay(
        mesh, "churn-training", form, tmp_path / "c", store, egress_port=egress, ready_port=ready[1]
    )
    assert asked(client) != 0
    with (
        program(app),
        started(node.command, node.folder, ready[0], **node.variables),
        started(client.command, client.folder, ready[1], **client.variables),
    ):
        assert [call(DIRECT, f"http://127.0.0.1:{egress}")[0] for _ in range(3)] == [200] * 3
        assert (asked(node), asked(client)) == (0, 0)
    ends = lines_below(client.logs, _type="DownstreamEnd")
    assert [it["upstream_peer"] for it in ends] == ["spiffe://ml/labels-v1"] * 3
    (path,) = client.logs.glob("*/closed/*.jsonl")
    assert {it["sidecar_id"] for it in ends} == {path.parent.parent.name}
    assert path.parent.parent.name == NAMES.get(form, path.parent.parent.name)
    assert TASK_MARK not in path.parent.parent.name
    peers = lines_below(
        node.logs, _type="DownstreamEnd", downstream_peer="spiffe://ml/churn-training"
    )
    assert len(peers) == 3


def asked(laid: Laid) -> int:
    """What the platform's check of it says."""
    done = subprocess.run(laid.check, capture_output=True, check=False, timeout=20)
    return done.returncode


# --- manifests --------------------------------------------------------------------------------


def test_the_last_files_are_shipped_when_the_task_ends(tmp_path: Path, store: Path) -> None:
    """The shipper is ended after Envoy: it looks once more, and for finished files alone."""
    asked_for = tmp_path / "asked"
    (tmp_path / "aws").write_text(f'#!/bin/sh\necho "$@" >> {asked_for}\n')
    (tmp_path / "aws").chmod(0o700)
    files = rendered("churn-training", "ecs", store, logs_to="s3://bucket/logs")
    containers = json.loads(files["task-definition.json"])["containerDefinitions"]
    shipper = next(it for it in containers if it["name"] == "envoy-logs")
    command = [*shipper["entryPoint"], *shipper["command"]]
    path = f"{tmp_path}:{os.environ['PATH']}"
    with started(command, tmp_path, PATH=path) as process:
        deadline = time.monotonic() + 20
        while not asked_for.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.terminate()
        assert process.wait(20) == 0
    first, last = asked_for.read_text().splitlines()
    assert first == last
    assert first.startswith("s3 mv /var/log/meshml s3://bucket/logs --recursive")
    assert first.endswith("--exclude * --include */closed/*.jsonl")


@pytest.mark.parametrize("member", ["churn-training", "labels-v1"])
@pytest.mark.parametrize("logs_to", [None, "s3://bucket/logs"])
def test_ecs_takes_the_task_definition(member: str, logs_to: str | None, store: Path) -> None:
    """The body has the shape of RegisterTaskDefinition, and only values that are named open."""
    files = rendered(member, "ecs", store, logs_to=logs_to)
    body = json.loads(files["task-definition.json"])
    model = botocore.session.get_session().get_service_model("ecs")
    shape = model.operation_model("RegisterTaskDefinition").input_shape
    assert ParamValidator().validate(body, shape).generate_report() == ""
    by_name = {it["name"]: it for it in body["containerDefinitions"]}
    for container in by_name.values():
        assert {it["containerName"] for it in container.get("dependsOn", [])} <= by_name.keys()
    wait = by_name["app"]["dependsOn"]
    assert wait == [{"containerName": "envoy", "condition": "HEALTHY"}]
    assert ("envoy-logs" in by_name) == (logs_to is not None)


def test_a_task_definition_that_ecs_would_refuse_is_refused(store: Path) -> None:
    """ECS takes 64 KiB; whoever needs more is told another way."""
    variables = dict.fromkeys((f"V{number}" for number in range(3000)), "x" * 20)
    mesh = labels_mesh()
    found = rendering_of(mesh, "churn-training", "ecs", identities(mesh, "churn-training", store))
    with pytest.raises(EnvoyError, match="ECS takes 65536"):
        render_elsewhere(replace(found, variables=variables))


@pytest.mark.parametrize(
    ("member", "kind"), [("churn-training", "Job"), ("labels-v1", "Deployment")]
)
def test_kubernetes_runs_envoy_as_a_native_sidecar(member: str, kind: str, store: Path) -> None:
    """It starts before the program, ends after it, and may do nothing but serve."""
    files = rendered(member, "kubernetes", store)
    assert yaml.safe_load(files["workload.yaml"])["kind"] == kind
    pod = pod_of(files)
    (envoy,) = pod["initContainers"]
    assert (envoy["name"], envoy["restartPolicy"]) == ("envoy", "Always")
    locked = envoy["securityContext"]
    assert isinstance(locked, dict)
    assert (locked["runAsNonRoot"], locked["readOnlyRootFilesystem"]) == (True, True)
    assert locked["capabilities"] == {"drop": ["ALL"]}
    mounted = {it["name"] for it in envoy["volumeMounts"]}  # type: ignore[attr-defined]
    assert {it["name"] for it in pod["volumes"]} == mounted
    assert "volumeMounts" not in pod["containers"][0]


def test_the_service_finds_the_pods_of_its_node(store: Path) -> None:
    """Selector and labels are one, and its ports are Envoy's."""
    files = rendered("labels-v1", "kubernetes", store)
    service = yaml.safe_load(files["service.yaml"])["spec"]
    workload = yaml.safe_load(files["workload.yaml"])["spec"]
    labels = workload["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()
    assert service["selector"] == workload["selector"]["matchLabels"]
    ports = {it["name"]: it["containerPort"] for it in envoy_container(files)["ports"]}  # type: ignore[attr-defined]
    assert {it["targetPort"]: it["port"] for it in service["ports"]}.items() <= ports.items()


def test_a_changed_mesh_comes_with_new_pods(store: Path) -> None:
    """A ConfigMap never changes: another mesh has one of another name."""
    names = []
    for mode in ("STRICT", "PERMISSIVE"):
        mesh = labels_mesh(v2_mode=mode)
        sources = identities(mesh, "churn-training", store)
        files = render_elsewhere(rendering_of(mesh, "churn-training", "kubernetes", sources))
        config = yaml.safe_load(files["config.yaml"])
        assert config["immutable"] is True
        names.append(config["metadata"]["name"])
    assert len(set(names)) == 2


def wide_mesh(count: int) -> Mesh:
    """A client that calls so many services, each of a node of its own."""
    called, nodes, services = [], [], []
    for number in range(count):
        name = f"s{number}.ml.local"
        called.append(f"    - virtualService: {{virtualServiceName: {name}}}")
        nodes += [
            f"- virtualNodeName: n{number}",
            "  spec:",
            "    listeners: [{portMapping: {port: 8080, protocol: http}}]",
            f"    serviceDiscovery: {{dns: {{hostname: n{number}.internal}}}}",
        ]
        services += [
            f"- virtualServiceName: {name}",
            f"  spec: {{provider: {{virtualNode: {{virtualNodeName: n{number}}}}}}}",
        ]
    head = ["mesh: {meshName: ml}", "clients:", "- clientName: job", "  role: training"]
    parts = [*head, "  spec:", "    backends:", *called, "virtualNodes:", *nodes]
    return mesh_of("\n".join([*parts, "virtualServices:", *services]))


def test_files_that_are_too_many_for_a_config_map_come_packed(tmp_path: Path) -> None:
    """A first container unpacks them, and Envoy finds the same files as it would have."""
    mesh = wide_mesh(700)
    rendering = rendering_of(mesh, "job", "kubernetes", {}, root=str(tmp_path))
    files = render_elsewhere(rendering)
    config, pod = yaml.safe_load(files["config.yaml"]), pod_of(files)
    unpack = pod["initContainers"][0]
    archive, folder = (
        Path(mount_of(unpack, "envoy-archive")),
        Path(mount_of(unpack, "envoy-config")),
    )
    archive.mkdir(parents=True)
    folder.mkdir(parents=True)
    ((name, content),) = config["binaryData"].items()
    (archive / name).write_bytes(base64.b64decode(content))
    subprocess.run(unpack["command"], check=True, timeout=60)  # type: ignore[call-overload]
    wanted = {name: json.loads(text) for name, text in envoy_files(rendering).items()}
    assert {name: json.loads((folder / name).read_text()) for name in wanted} == wanted
    assert mount_of(envoy_container(files), "envoy-config") == str(folder)


def test_the_secrets_script_makes_the_secret_that_is_mounted(store: Path, tmp_path: Path) -> None:
    """kubectl makes of the files the Secret whose name and keys the pod expects."""
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl")
    files = rendered("labels-v1", "kubernetes", store)
    command, _, _ = files["secret.sh"].partition("|")
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=True, timeout=60)
    secret = yaml.safe_load(done.stdout)
    volumes = {it["name"]: it for it in pod_of(files)["volumes"]}
    mounted = volumes["envoy-certificates"]["secret"]
    assert isinstance(mounted, dict)
    assert secret["metadata"]["name"] == mounted["secretName"]
    config = json.dumps(yaml.safe_load(files["config.yaml"])["data"])
    folder = mount_of(envoy_container(files), "envoy-certificates")
    assert all(f"{folder}/{key}" in config for key in ("labels-v1.tls.key", "ml.authority.crt"))
    assert {"labels-v1.tls.crt", "labels-v1.tls.key", "ml.authority.crt"} <= secret["data"].keys()


def test_compose_gives_the_program_envoys_network_alone(store: Path) -> None:
    """The program starts when Envoy serves, and keeps its variables as they are."""
    services = yaml.safe_load(rendered("churn-training", "compose", store)["compose.yaml"])
    program_, envoy = services["services"]["churn-training"], "churn-training-envoy"
    assert program_["network_mode"] == f"service:{envoy}"
    assert program_["depends_on"] == {envoy: {"condition": "service_healthy"}}
    assert program_["environment"]["ODD"] == "$$(A) $${B} 'c'"


def test_who_renders_for_compose_as_root_is_told(store: Path) -> None:
    """Envoy runs as who reads the keys: that should be somebody who may do little else."""
    found = [rendered("labels-v1", "compose", store, user=it) for it in ("0:0", "1:1")]
    assert ["Envoy runs as root" in it["README.md"] for it in found] == [True, False]


def test_low_ports_are_opened_without_privileges(store: Path) -> None:
    """Envoy's user may listen at port 80 only where the kernel is told."""
    mesh = labels_mesh((80, 18082, 18083))
    sources = identities(mesh, "labels-v1", store)
    texts = [
        "".join(
            render_elsewhere(
                rendering_of(mesh, "labels-v1", form, sources, app_ports={80: 9002})
            ).values()
        )
        for form in CONTAINERS
    ]
    assert ["net.ipv4.ip_unprivileged_port_start" in text for text in texts] == [True] * 3


@pytest.mark.parametrize("form", CONTAINERS)
def test_the_program_is_not_where_envoy_listens(form: Form, store: Path) -> None:
    """They share one network: a port given twice is refused before anybody starts."""
    with pytest.raises(PortTakenError, match="port 18081"):
        rendered("labels-v1", form, store, app_ports={18081: 18081})


@pytest.mark.parametrize("form", CONTAINERS)
def test_whatever_leads_to_this_machine_is_told(form: Form, store: Path) -> None:
    """A node that is found at localhost is each container's own: the README warns."""
    text = rendered("labels-v1", form, store)["README.md"]
    assert "virtual node labels-v1 is found at localhost" in text


@pytest.mark.envoy
def test_without_a_store_calls_are_logged_to_standard_output(tmp_path: Path, store: Path) -> None:
    """Then the platform's own log has them, each as a line that ingest can read."""
    mesh, (ready, egress) = labels_mesh(), (free_port(), free_port())
    sources = identities(mesh, "churn-training", store)
    rendering = rendering_of(
        mesh,
        "churn-training",
        "kubernetes",
        sources,
        root=str(tmp_path / "c"),
        egress_port=egress,
        ready_port=ready,
    )
    files = render_elsewhere(rendering)
    mount_config_map(files)
    mount_secret(files, {n: Path(p).read_text() for n, p in certificate_files(sources).items()})
    container = envoy_container(files)
    command, folder = container["command"], Path(str(container["workingDir"]))
    assert isinstance(command, list)
    with started([envoy_path(), *command[1:]], folder, ready, **POD) as envoy:
        assert call("http://nobody.ml.local/", f"http://127.0.0.1:{egress}")[0] == 403
        envoy.terminate()
        out, _ = envoy.communicate(timeout=20)
    lines = [json.loads(line) for line in out.decode().splitlines() if line[:1] == "{"]
    (end,) = [it for it in lines if it["_type"] == "DownstreamEnd"]
    assert (end["sidecar_id"], end["process_id"]) == ("churn-7d9f", "uid-1")


@pytest.mark.envoy
def test_a_renewed_secret_is_taken_up_in_a_running_pod(tmp_path: Path, store: Path) -> None:
    """A kubelet changes the whole volume by one link; Envoy then shows the new certificate."""
    ports, ready = (free_port(), free_port(), free_port()), free_port()
    mesh, root = labels_mesh(ports), tmp_path / "n"
    own = {"app_ports": {ports[0]: free_port()}, "ready_port": ready}
    node = lay(mesh, "labels-v1", "kubernetes", root, store, **own)
    with started(node.command, node.folder, ready, **node.variables):
        before = ssl.get_server_certificate(("127.0.0.1", ports[0]))
        (kept,) = store.glob("*/identities/labels-v1-*")
        kept.rename(kept.with_name("gone"))
        renewed = certificate_files(identities(mesh, "labels-v1", store))
        volume = node.folder.parent / "certificates"
        (volume / "..2").mkdir()
        for name, path in renewed.items():
            shutil.copy(path, volume / "..2" / name)
        (volume / "..next").symlink_to("..2")
        (volume / "..next").rename(volume / "..data")
        deadline = time.monotonic() + 10
        while ssl.get_server_certificate(("127.0.0.1", ports[0])) == before:
            assert time.monotonic() < deadline
            time.sleep(0.05)
