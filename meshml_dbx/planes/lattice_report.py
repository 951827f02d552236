"""A plan for VPC Lattice as people and programs read it: steps, findings, open values, a price.

Goes in: a mesh file as read. Comes out: the report that ``meshml plan`` prints as text or JSON.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from meshml_dbx.errors import UnknownNameError
from meshml_dbx.findings import Finding, finding
from meshml_dbx.mesh.load import LoadedMesh
from meshml_dbx.mesh.names import mesh_version
from meshml_dbx.mesh.spec import Mesh
from meshml_dbx.planes.lattice import LatticePlan, desired
from meshml_dbx.planes.lattice_price import HOURS_A_MONTH, Estimate, estimate
from meshml_dbx.planes.plan import Step

HEADINGS = ("step", "action", "kind", "name", "after")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanReport:
    """What would be created for a mesh file, and what has to be known before.

    >>> from meshml_dbx.mesh.load import load_mesh
    >>> loaded = load_mesh("mesh: {meshName: ml}", source="mesh.yml")
    >>> plan_report(loaded, loaded.mesh).estimate.total
    0.0
    """

    mesh: str
    mesh_version: str
    made: LatticePlan
    findings: tuple[Finding, ...]
    estimate: Estimate
    unused: tuple[str, ...] = ()

    def summary(self) -> str:
        """One line: how many resources of each kind would be created."""
        kinds = Counter(step.resource.kind for step in self.made.plan.steps)
        counted = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
        return f"{len(self.made.plan.steps)} resources to create: {counted}"

    def rows(self) -> tuple[tuple[str, ...], ...]:
        """The steps as table rows; the last column holds the steps that come before."""
        steps = self.made.plan.steps
        numbers = {step.resource.key: number for number, step in enumerate(steps, start=1)}
        return tuple(
            (
                str(number),
                step.action,
                step.resource.kind,
                step.resource.name,
                ", ".join(str(numbers[key]) for key in step.resource.needs if key in numbers),
            )
            for number, step in enumerate(steps, start=1)
        )

    def price_lines(self) -> tuple[str, ...]:
        """The estimate in words: each cost with its formula, the sum, and what to know of it."""
        costs = self.estimate.costs
        lines = [f"{cost.what}: {cost.formula} = ${cost.dollars:,.2f}" for cost in costs]
        total = f"a month: ${self.estimate.total:,.2f}"
        return (*lines, total, *(f"    {note}" for note in self.estimate.notes))

    def to_json(self) -> dict[str, object]:
        """The report as ``meshml plan --json`` prints it.

        ``steps``, in order: ``body`` is the create request in the field names of boto3's
        ``vpc-lattice`` (of an ``iam-policy``: of ``iam``); in it ``${KIND/NAME.id}`` stands for
        what an earlier step gives, ``${NAME}`` for a value of ``unknowns``; ``unused`` are
        values that were given and stand nowhere. ``estimate`` is in dollars.
        """
        return {
            "plane": "lattice",
            "mesh": self.mesh,
            "mesh_version": self.mesh_version,
            "steps": [_step_json(step) for step in self.made.plan.steps],
            "unknowns": self.made.unknowns,
            "unused": list(self.unused),
            "findings": [{**asdict(it), "severity": str(it.severity)} for it in self.findings],
            "estimate": {**asdict(self.estimate), "total": self.estimate.total},
        }


def plan_report(
    loaded: LoadedMesh,
    mesh: Mesh,
    *,
    values: Mapping[str, str] | None = None,
    requests: float | None = None,
    gigabytes: float | None = None,
    hours: float = HOURS_A_MONTH,
    region: str | None = None,
) -> PlanReport:
    """The plan of a mesh file with these values, and its price with a month's traffic."""
    made = desired(mesh, values)
    return PlanReport(
        mesh=mesh.mesh.mesh_name,
        mesh_version=mesh_version(mesh),
        made=made,
        findings=tuple(
            finding(one.code, where=loaded.where(one.path), what=one.what)
            for one in sorted(made.problems, key=lambda it: loaded.line_near(it.path))
        ),
        estimate=estimate(
            services=made.count("service"),
            requests=requests,
            gigabytes=gigabytes,
            hours=hours,
            region=region,
            resources=made.count("resource-configuration"),
        ),
        unused=_unused(mesh, values or {}),
    )


def _unused(mesh: Mesh, values: Mapping[str, str]) -> tuple[str, ...]:
    """The given values that no body of the plan asks for."""
    asked = desired(mesh).plan.unknowns if values else ()
    return tuple(name for name in values if name not in asked)


def require_plane(plane: str) -> None:
    """Raise UnknownNameError where no plan is made for a plane."""
    if plane != "lattice":
        raise UnknownNameError(
            f"there is no plan for the plane {plane}",
            advice="use lattice; an Envoy of your own is set up by meshml render",
        )


def _step_json(step: Step) -> dict[str, object]:
    return {
        "action": step.action,
        "kind": step.resource.kind,
        "name": step.resource.name,
        "key": step.resource.key,
        "needs": list(step.resource.needs),
        "body": dict(step.resource.body),
    }
