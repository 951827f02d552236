"""Session: the product's journeys, one short method each: the product's table of contents.

Those that need a mesh file alone (J1: declare and build) stand in ``mesh_journeys``, those of the
lake (J3: event to Delta) in ``lake_journeys``.

Goes in: settings. Comes out: findings, exit statuses, an ingest report, a ``Diagnosis``. A session
composes rooms, which never meet: what one returns is a word that the next understands.
"""

import os
import shlex
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from meshml_dbx import connect
from meshml_dbx.errors import LogFolderError, MeshMLError, MissingToolError, UnknownNameError
from meshml_dbx.lake_journeys import LakeJourneys
from meshml_dbx.mesh.checks import require_mesh
from meshml_dbx.mesh.load import read_mesh
from meshml_dbx.settings import DEFAULT_MESH, prepare_state, read_settings
from meshml_dbx.traffic.context import PROCESS_VARIABLE
from meshml_dbx.traffic.evidence import Evidence
from meshml_dbx.traffic.ownership import Run

if TYPE_CHECKING:
    from meshml_dbx.diagnosis import Diagnosis
    from meshml_dbx.diagnosis.drift import Drift
    from meshml_dbx.in_process import KnownHosts
    from meshml_dbx.reloading import Reloaded
    from meshml_dbx.traffic.trail import Followed
    from meshml_dbx.trust import IdentityFiles

SHORT_ID = 6
MOST_PAGES = 20
"""How many runs one ingest attaches the page to, of those that waited longest."""


class Session(LakeJourneys):
    """The journeys of one project, with its settings; those of mesh file and lake are inherited.

    >>> Session(read_settings({}, mesh="no.yml")).settings.mesh.name
    'no.yml'
    """

    # --- J2: call → event ---------------------------------------------------------------------

    def run(self, client: str, command: Sequence[str]) -> int:
        """The exit status of a program, run as a client of the mesh with its calls recorded.

        Raises:
            MeshInvalidError: the mesh file has errors.
            MeshMLError: Envoy, a certificate or the log folder is not usable.
        """
        from meshml_dbx import member
        from meshml_dbx.mesh.names import find_client

        loaded = self._usable_mesh()
        find_client(require_mesh(loaded), client)
        envoy = member.prepare(self.settings, command, os.environ)
        plan = member.plan_client(self.settings, loaded, client, command)
        return member.supervise_member(
            self.settings, loaded, plan, envoy, say=self.say, environ=os.environ
        )

    def record(self, command: Sequence[str], *, client: str | None = None) -> int:
        """The exit status of a program that records its own calls: no mesh, no proxy.

        Raises:
            MissingToolError: there is no such program, or its Python lacks this package.
            LogFolderError: the log or state folder cannot be written.
            MeshInvalidError: the mesh file that was named has errors.
        """
        from meshml_dbx import in_process, member, sidecar

        if in_process.is_under_sidecar(os.environ):
            self.say(f"warning: {in_process.UNDER_A_SIDECAR}")
            return sidecar.run_to_end(command, os.environ)
        sidecar.require_program(command)
        if member.lacks_package(command):
            raise MissingToolError(
                f"meshml_dbx is not installed for {command[0]}, so nothing would be recorded",
                advice="install it there: pip install meshml_dbx",
            )
        known = self._hosts_for_recording()
        prepare_state(self.settings.state)
        environment = in_process.program_environment(
            self.settings, client, known, command, os.environ
        )
        began, before = time.time_ns() // 1000, self._known_logs()
        status = sidecar.run_to_end(command, environment)
        sidecar.adopt(self.settings.folder, self.settings.logs)
        recorders = self._recorders(environment[PROCESS_VARIABLE], since=began)
        self._say_whether_recorded(recorders - before)
        return status

    def sidecar(
        self,
        node: str,
        command: Sequence[str] = (),
        *,
        app_port: int | None = None,
        app_ports: Mapping[int, int] | None = None,
        bind: str = "127.0.0.1",
    ) -> int:
        """The exit status of a program that serves a virtual node; without one, stays.

        ``app_ports``: where the program listens, by the node's port, for a node of several.

        Raises:
            PortTakenError: the node's port, or the program's, is in use.
            MeshMLError: as ``run``.
        """
        from meshml_dbx import member
        from meshml_dbx.mesh.names import find_node

        loaded = self._usable_mesh()
        find_node(require_mesh(loaded), node)
        envoy = member.prepare(self.settings, command, os.environ)
        serving = member.Serving(
            app_port=app_port, app_ports=app_ports or {}, bind=bind, command=tuple(command)
        )
        plan = member.plan_node(self.settings, loaded, node, serving)
        return member.supervise_member(
            self.settings, loaded, plan, envoy, say=self.say, environ=os.environ
        )

    def gateway(self, name: str, *, bind: str = "127.0.0.1") -> int:
        """The exit status of a virtual gateway, which stays until a signal.

        Raises:
            PortTakenError: a port of the gateway is in use.
            MeshMLError: as ``run``.
        """
        from meshml_dbx import member
        from meshml_dbx.mesh import names

        loaded = self._usable_mesh()
        names.gateway(require_mesh(loaded), name)
        envoy = member.prepare(self.settings, (), os.environ)
        plan = member.plan_gateway(self.settings, loaded, name, bind=bind)
        return member.supervise_member(
            self.settings, loaded, plan, envoy, say=self.say, environ=os.environ
        )

    def reload(self, names: Sequence[str] = ()) -> "tuple[Reloaded, ...]":
        """What became of each living sidecar that was asked to serve the mesh file as it is now.

        Raises:
            MeshInvalidError: the mesh file has errors: then no sidecar is asked.
            UnknownNameError: no living sidecar has one of the names.
        """
        from meshml_dbx.reloading import reload_sidecars

        return reload_sidecars(self.settings, self._usable_mesh(), names, say=self.say)

    def identity(self, name: str) -> "IdentityFiles":
        """Certificate, key and authority of a client of the mesh that speaks TLS itself.

        Raises:
            MeshInvalidError: the mesh file has errors.
            TrustError: the store of identities cannot be used.
        """
        from meshml_dbx.trust import supply_identity

        mesh = require_mesh(self._usable_mesh())
        now = datetime.now(UTC)
        store, mesh_name = self.settings.folder.trust, mesh.mesh.mesh_name
        return supply_identity(store, mesh_name=mesh_name, name=name, now=now)

    # --- J3: event → Delta: the rest stands in ``lake_journeys`` --------------------------------

    def write_metrics(self) -> None:
        """Waits as metrics onto MLflow's runs that ended, each once; long ones get the page, too.

        A store that takes none is only told of.
        """
        from meshml_dbx.lake.metrics import write_metrics

        spark, names = self._desk.open()
        self.say("writing network metrics to MLflow's runs")
        written = write_metrics(spark, names, connect.RunLog(self.settings.tracking))
        for notice in written.notices:
            self.say(f"warning: {notice}")
        self.say(f"network metrics written: runs {len(written.runs)}")
        for run_id in written.waited_long[:MOST_PAGES]:
            try:
                self.log_page(self.why(run_id))
            except MeshMLError as error:
                self.say(f"warning: no page for run {run_id}: {error}")

    # --- J4: why ------------------------------------------------------------------------------

    def why(
        self, run: str = "last", *, live: bool = False, baseline: str | None = None
    ) -> "Diagnosis":
        """Why a run was slow or stuck, from the lake where it has the run, else from the logs.

        Raises:
            UnknownRunError: no run answers to that name.
            TrackingError: the store of runs cannot be read.
            LogFolderError: there is no log folder to read.
        """
        from meshml_dbx.diagnosis import diagnose

        return diagnose(self.evidence(run, live=live, baseline=baseline))

    def hops(
        self,
        run: str = "last",
        *,
        live: bool = False,
        top: int = 3,
        request_id: str | None = None,
    ) -> "Followed":
        """The run's slowest calls, or those with one request id, past their first service.

        Raises:
            UnknownNameError: the run has no finished call with that request id.
            MeshMLError: as ``why``.
        """
        from meshml_dbx.traffic.trail import Followed, follow, slowest

        evidence = self.evidence(run, live=live)
        roots = slowest(evidence.calls, at_most=top, request_id=request_id)
        if request_id and not roots:
            raise UnknownNameError(
                f"run {evidence.run.run_id[:SHORT_ID]} has no finished call {request_id}",
                advice="take a request id of meshml why --evidence",
            )
        recorded = live or not self._desk.has_ingested(evidence.run)
        calls = self._desk.calls_around(roots, live=recorded)
        return Followed(run=evidence.run, trails=follow(calls, roots))

    def drift(self, *, live: bool = False, days: float | None = None) -> "Drift":
        """What differs between the mesh file and the calls of the last ``days``, or of all.

        Raises:
            MeshInvalidError: the mesh file has errors.
            LogFolderError: there is no log folder to read.
            LakeError: Spark or a table failed.
        """
        from meshml_dbx.diagnosis.drift import find_drift

        loaded = read_mesh(self.settings.mesh)
        mesh = require_mesh(loaded, unknowns=True)
        since = 0 if days is None else int((time.time() - days * 86400) * 1_000_000)
        usages, versions = self._desk.usages(since, live=live)
        return find_drift(loaded, mesh, usages, known_versions=versions)

    def evidence(
        self, run: str = "last", *, live: bool = False, baseline: str | None = None
    ) -> Evidence:
        """Everything that is known of one run's calls.

        Raises:
            UnknownRunError: as ``why``.
        """
        from meshml_dbx.in_process import flush_recording, unrecorded

        flush_recording()
        with unrecorded():
            return self._evidence(run, live=live, baseline=baseline)

    def _evidence(self, run: str, *, live: bool, baseline: str | None) -> Evidence:
        from meshml_dbx.recording.evidence import read_evidence

        chosen = self._find_run(run)
        compared = self._find_run(baseline) if baseline else None
        named = compared.run_id if compared else None
        read_at = time.time_ns() // 1000
        if (
            not live
            and self._desk.has_ingested(chosen)
            and (not compared or self._desk.has_ingested(compared))
        ):
            self.say("reading the lake")
            found = self._desk.evidence(chosen, named, read_at)
            if found is not None:
                return found
        self.say("reading the log folder")
        tracking, until = self.settings.tracking, chosen.end_time
        earlier = connect.read_runs(tracking, until=until)
        # Whoever has a say in its calls, however many runs are newer.
        beside = connect.read_runs(
            tracking, since=chosen.start_time, until=until, limit=connect.EVERY
        )
        known = (*earlier, *beside, chosen, *([compared] if compared else []))
        around = {one.run_id: one for one in known}
        return read_evidence(
            self.settings.logs, chosen, tuple(around.values()), read_at=read_at, baseline=named
        )

    def page(self, answer: "Diagnosis") -> str:
        """The answer as one self-contained HTML page."""
        from meshml_dbx.diagnosis.report import render_page

        return render_page(answer, answer.evidence, picture=self._picture(answer))

    def cell(self, answer: "Diagnosis") -> str:
        """The answer as a piece of HTML for a notebook's cell."""
        from meshml_dbx.diagnosis.report import render_fragment

        return render_fragment(answer, answer.evidence, picture=self._picture(answer))

    def write_page(self, answer: "Diagnosis", path: Path) -> None:
        """Write the page to a file.

        Raises:
            MeshMLError: the file cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.page(answer), encoding="utf-8")
        except OSError as error:
            raise MeshMLError(
                f"could not write the page to {path}: {error.strerror}",
                advice="name another file with --html",
            ) from error

    def log_page(self, answer: "Diagnosis") -> str:
        """Attach the page to the MLflow run; the artifact's path.

        Raises:
            TrackingError: the store does not take it.
        """
        return connect.attach_page(self.settings.tracking, answer.run_id, self.page(answer))

    def answer_text(self, answer: "Diagnosis", *, page: Path | None = None) -> str:
        """The answer in a few lines; its last one can be pasted."""
        from meshml_dbx.diagnosis import answer_text

        return answer_text(answer, report=str(page or ""), next_command=self._next_command(answer))

    def evidence_rows(
        self, answer: "Diagnosis"
    ) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
        """Headings and rows of the calls that prove the answer."""
        from meshml_dbx.diagnosis import EVIDENCE_HEADINGS, evidence_rows

        return EVIDENCE_HEADINGS, evidence_rows(answer)

    def hop_rows(
        self, followed: "Followed"
    ) -> "tuple[tuple[str, ...], tuple[tuple[tuple[tuple[str, ...], ...], tuple[str, ...]], ...]]":
        """Headings, and for each call its rows and what they do not show."""
        from meshml_dbx.flowmap.trail import TRAIL_HEADINGS, trail_notes, trail_rows

        trails = ((trail_rows(trail), trail_notes(trail)) for trail in followed.trails)
        return TRAIL_HEADINGS, tuple(trails)

    def next_command(self, *words: str) -> str:
        """A command that can be pasted here and means the same settings as this session's."""
        return shlex.join(["meshml", *words, *self._options()])

    def causes(self) -> dict[str, str]:
        """Every cause that ``why`` can name, and what it means."""
        from meshml_dbx.diagnosis import CAUSES

        return dict(CAUSES)

    # --- how the journeys are walked ------------------------------------------------------------

    def _hosts_for_recording(self) -> "KnownHosts":
        """The names of the mesh file: of one that was named, or of one that just lies here."""
        from meshml_dbx import in_process

        if self.settings.mesh != Path(DEFAULT_MESH):
            return in_process.known_hosts(self.settings)
        known = in_process.known_hosts_if_usable(self.settings)
        for note in known.notes:
            self.say(f"warning: {note}")
        return known

    def _known_logs(self) -> frozenset[str]:
        from meshml_dbx.recording.read import list_sidecars

        try:
            return frozenset(list_sidecars(self.settings.logs))
        except LogFolderError:  # empty
            return frozenset()

    def _recorders(self, process_id: str, *, since: int) -> set[str]:
        """The log folders of a process that recorded itself, and of its children."""
        from meshml_dbx.recording.sidecars import find_sidecars

        try:
            found = find_sidecars(self.settings.logs, since=since)
        except LogFolderError:  # empty
            return set()
        return {one.folder.sidecar_id for one in found if one.process_id == process_id}

    def _say_whether_recorded(self, recorders: set[str]) -> None:
        if recorders:
            self.say(f"recorded; next: {self.next_command('why', 'last')}")
        else:
            self.say(
                "warning: nothing was recorded: is it a Python program, started without -I, -E "
                "or -S, and with its environment?"
            )

    def _picture(self, answer: "Diagnosis") -> str:
        from meshml_dbx import flowmap
        from meshml_dbx.diagnosis.report import marked_paths, waits_by_path

        flow = flowmap.flow_of(
            answer.evidence.calls,
            in_flight=answer.evidence.in_flight,
            waits=waits_by_path(answer),
            marked=marked_paths(answer),
        )
        return flowmap.to_html(flow)

    def _find_run(self, name: str) -> Run:
        return connect.find_run(name, tracking_uri=self.settings.tracking)

    def _next_command(self, answer: "Diagnosis") -> str:
        words = ["why", answer.run_id[:SHORT_ID], "--evidence"]
        if answer.evidence.baseline_kind == "named":
            for past in answer.evidence.baseline:
                words += ["--baseline", past.run.run_id[:SHORT_ID]]
        return self.next_command(*words)

    def _options(self) -> list[str]:
        """The options without which a command typed here would have other settings than these."""
        words: list[str] = []
        bare = read_settings()
        if self.settings.state != bare.state:
            words += ["--state", str(self.settings.state)]
            bare = read_settings(state=self.settings.state)
        for name in ("logs", "lake", "tracking"):
            mine, others = getattr(self.settings, name), getattr(bare, name)
            if mine is not None and str(mine) != str(others):
                words += [f"--{name}", connect.mask(str(mine))]
        return words


def why(
    run: str | None = None,
    *,
    baseline: str | None = None,
    live: bool = False,
    **settings: str | Path | None,
) -> "Diagnosis":
    """The answer for a run, shown as a page by a notebook: ``meshml_dbx.why()``.

    Without a run: the one that is active here, else the last one. ``settings`` are those of the
    command line: state, logs, lake, tracking; where this process has recorded is known.

    Raises:
        MeshMLError: as ``Session.why``.
    """
    from meshml_dbx.in_process import recorded_where, unrecorded

    given = {name: value for name, value in settings.items() if value is not None}
    if not given.keys() & {"state", "logs"}:
        given = {**recorded_where(), **given}
    session = Session(read_settings(None, **given))
    with unrecorded():
        chosen = run or connect.active_run_id() or "last"
    answer = session.why(chosen, live=live, baseline=baseline)
    return answer.with_page(session.cell(answer))
