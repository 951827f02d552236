"""The mesh as declared against what happened: which ways differ, and which are never walked.

Goes in: a mesh file and how often each way was used. Comes out: findings with their line in the
file, and the ways with their calls. Only calls that were made under this version of the mesh are
compared; the others are counted and named.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from meshml_dbx.diagnosis import drift_rules
from meshml_dbx.diagnosis.drift_case import CALLING_OBSERVERS, DriftCase, Way
from meshml_dbx.diagnosis.weights import FALSE_ALARMS, Spread
from meshml_dbx.findings import Finding
from meshml_dbx.mesh import names
from meshml_dbx.mesh.load import LoadedMesh
from meshml_dbx.mesh.spec import Mesh
from meshml_dbx.traffic.usage import Usage

TEST = (
    "weights: Chernoff-Hoeffding bound per target, Bonferroni over all targets; a mesh that keeps "
    f"its weights is blamed with a chance of at most {FALSE_ALARMS:.0%}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What differs between a mesh file and what was seen.

    ``compared`` calls were made under this version; ``calls`` is all that was seen of callers.

    >>> drift = Drift(mesh="ml", mesh_version="0a", calls=0, compared=0, findings=(), ways=())
    >>> drift.to_json()["calls"]
    0
    """

    mesh: str
    mesh_version: str
    calls: int
    compared: int
    findings: tuple[Finding, ...]
    ways: tuple[Way, ...]
    spreads: tuple[tuple[str, Spread], ...] = ()

    def to_json(self) -> dict[str, object]:
        """The same as plain values; names are a promise, more may be added."""
        return {
            "mesh": self.mesh,
            "mesh_version": self.mesh_version,
            "calls": self.calls,
            "compared": self.compared,
            "test": TEST,
            "findings": [
                {"code": it.code, "severity": str(it.severity), "where": it.where, "what": it.what}
                for it in self.findings
            ],
            "ways": [
                {
                    "caller": way.caller,
                    "virtual_service": way.virtual_service,
                    "route": way.route,
                    "target": way.target,
                    "calls": way.calls,
                }
                for way in self.ways
            ],
            "weights": [
                {
                    "route": route,
                    "target": one.target,
                    "calls": one.calls,
                    "of": one.of,
                    "declared": one.declared,
                    "observed": one.observed,
                    "chance": one.chance,
                }
                for route, one in self.spreads
            ],
        }


def find_drift(
    loaded: LoadedMesh,
    mesh: Mesh,
    usages: Sequence[Usage],
    *,
    known_versions: frozenset[str] = frozenset(),
) -> Drift:
    """What differs between a mesh file and the ways that were used.

    ``known_versions`` are versions of the mesh that a document is known of.
    """
    version = names.mesh_version(mesh)
    ours = [it for it in usages if it.mesh in {None, mesh.mesh.mesh_name}]
    case = DriftCase.of(loaded, mesh, [it for it in ours if it.mesh_version == version])
    weighed = case.weighed()
    return Drift(
        mesh=mesh.mesh.mesh_name,
        mesh_version=version,
        calls=sum(it.calls for it in ours if it.observer in CALLING_OBSERVERS),
        compared=sum(it.calls for it in case.called),
        findings=(
            *drift_rules.find_versions(case, ours, version, known_versions),
            *drift_rules.find_undeclared(case),
            *drift_rules.find_unused_backends(case),
            *drift_rules.find_unused_routes(case),
            *drift_rules.find_off_weights(case, weighed),
            *drift_rules.find_strange_servers(case),
            *drift_rules.find_strange_callers(case),
        ),
        ways=case.ways(),
        spreads=tuple((route, one) for _, route, one in weighed),
    )
