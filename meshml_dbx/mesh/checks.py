"""What is wrong with a mesh whose form is right: rules that look at two places at once.

A loaded mesh goes in, findings come out, each with its line. The rules are those that the App Mesh
API and its Kubernetes webhook enforced, and those whose breach shows only later, as a 503 or a call
cut short; they stand in ``checks_names``, ``checks_matches``, ``checks_routes``, ``checks_nodes``
and ``identities``.
"""

import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace

from meshml_dbx.errors import MeshInvalidError
from meshml_dbx.findings import Finding, Severity, finding
from meshml_dbx.mesh import checks_matches, checks_names, checks_nodes, checks_routes, identities
from meshml_dbx.mesh.load import LoadedMesh, collector_paused
from meshml_dbx.mesh.places import Declared, Problem
from meshml_dbx.mesh.spec import Mesh


@collector_paused()
def check_mesh(loaded: LoadedMesh) -> tuple[Finding, ...]:
    """Everything that is wrong, or worth knowing, in a mesh file, in the order of its lines."""
    if loaded.mesh is None:
        return loaded.findings
    declared = Declared.of(loaded.mesh)
    problems = dict.fromkeys(problem for check in CHECKS for problem in check(declared))
    placed = sorted(problems, key=lambda problem: loaded.rank_of(problem.path))
    return loaded.findings + tuple(
        finding(one.code, where=loaded.where(one.path), what=one.what) for one in placed
    )


def require_mesh(loaded: LoadedMesh, *, unknowns: bool = False) -> Mesh:
    """The mesh that a file declares; raises MeshInvalidError if any finding is an error.

    A parameter without a value is one too, unless ``unknowns`` may stay: what is only looked at
    needs no host name.
    """
    errors = [_as_error(one) for one in check_mesh(loaded) if _stops(one, unknowns=unknowns)]
    if loaded.mesh is not None and not errors:
        return loaded.mesh
    count = "1 error" if len(errors) == 1 else f"{len(errors)} errors, the first of them"
    raise MeshInvalidError(
        f"{loaded.source} has {count}: {errors[0]}",
        findings=errors,
        advice=f"meshml check {shlex.quote(loaded.source)}",
    )


def _stops(found: Finding, *, unknowns: bool) -> bool:
    open_parameter = found.code == "unresolved-parameter"
    return found.severity is Severity.ERROR or (open_parameter and not unknowns)


def _as_error(found: Finding) -> Finding:
    return replace(found, severity=Severity.ERROR)


CHECKS: tuple[Callable[[Declared], Iterator[Problem]], ...] = (
    checks_names.find_duplicate_names,
    checks_names.find_duplicate_entries,
    checks_names.find_duplicate_targets,
    checks_names.find_dangling_references,
    checks_names.find_missing_ports,
    checks_names.find_missing_gateway_ports,
    checks_names.find_no_provider,
    checks_names.find_no_routes,
    checks_names.find_unused,
    checks_names.find_cycles,
    checks_matches.find_unreachable_routes,
    checks_matches.find_impossible_matches,
    checks_matches.find_wrong_values,
    checks_matches.find_partial_regexes,
    checks_routes.find_zero_weights,
    checks_routes.find_retry_budgets,
    checks_routes.find_shorter_listeners,
    checks_routes.find_lifted_limits,
    checks_routes.find_unsafe_retries,
    checks_routes.find_idle_retries,
    checks_routes.find_protocol_mismatches,
    checks_routes.find_lonely_methods,
    checks_routes.find_wrong_rewrites,
    checks_routes.find_reserved_paths,
    checks_nodes.find_undiscoverable,
    checks_nodes.find_same_addresses,
    checks_nodes.find_repeated_ports,
    checks_nodes.find_same_instances,
    checks_nodes.find_shared_tcp_ports,
    checks_nodes.find_low_ports,
    checks_nodes.find_wrong_health_checks,
    checks_nodes.find_health_check_load,
    checks_nodes.find_lone_outliers,
    checks_nodes.find_shared_pools,
    checks_nodes.find_void_policies,
    checks_nodes.find_other_protocols,
    checks_nodes.find_void_egress_filter,
    checks_nodes.find_lifted_listener_limits,
    checks_nodes.find_stalling_listeners,
    checks_nodes.find_open_listeners,
    checks_nodes.find_endless_log_lines,
    identities.find_foreign_authorities,
    identities.find_acm,
    identities.find_shared_identities,
    identities.find_unknown_names,
    identities.find_unused_permissions,
    identities.find_refused_peers,
)
