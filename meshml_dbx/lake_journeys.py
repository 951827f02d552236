"""The journeys of the lake: what comes in, what is made of it, what goes.

The middle of ``Session``. Goes in: settings, logs, MLflow's runs. Comes out: tables and reports.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from meshml_dbx import connect
from meshml_dbx.errors import LogFormatError, TrackingError
from meshml_dbx.lake_desk import LakeDesk
from meshml_dbx.mesh_journeys import MeshJourneys, Say, silent
from meshml_dbx.settings import Settings, prepare_state
from meshml_dbx.traffic.ownership import Run

if TYPE_CHECKING:
    from meshml_dbx.collecting import Collected
    from meshml_dbx.connect import DataFrame, SparkSession
    from meshml_dbx.lake import IngestReport, TableNames
    from meshml_dbx.lake.prune import Pruned
    from meshml_dbx.lake.quarantined import Quarantine, Replayed
    from meshml_dbx.lake.wait_cost import WaitCosts
    from meshml_dbx.lake.watch import Watcher
    from meshml_dbx.traffic.log_format import LogFormat
    from meshml_dbx.traffic.log_source import LogSource
    from meshml_dbx.watching import WatchView


class LakeJourneys(MeshJourneys):
    """What is done with the lake.

    >>> LakeJourneys(read_settings({}, mesh="no.yml")).settings.mesh.name
    'no.yml'
    """

    def __init__(self, settings: Settings | None = None, *, say: Say = silent) -> None:
        super().__init__(settings, say=say)
        self._desk = LakeDesk(self.settings, self.say)

    def collect(
        self,
        places: Sequence[str],
        source: "LogSource",
        *,
        log_format: str | None = None,
        since: float | None = None,
        region: str | None = None,
        profile: str | None = None,
        endpoint_url: str | None = None,
    ) -> "Collected":
        """What of logs that others write is now in the log folder, where ``ingest`` reads it.

        ``places``: files, folders, patterns, ``cloudwatch:GROUP``, ``cloudwatch:GROUP:PREFIX``,
        ``s3://BUCKET/PREFIX``. A source with an empty id is called after each place.
        ``log_format``: a known one's name, an Envoy format string or JSON template; told from the
        lines where it is None. ``since``, seconds since 1970: how far back groups and buckets are
        read. The others say how AWS is asked, where its own chain of settings should not.

        Raises:
            LogFolderError: a place does not exist, or a folder cannot be written.
            LogFormatError: the format is none of Envoy's.
            UnknownNameError: no format has that name.
            MissingToolError: boto3, which AWS's places need, is not installed.
            LakeError: AWS refuses: no such group or bucket, no credentials, access denied.
        """
        from meshml_dbx.collecting import AwsAccess, Foreign, collect

        foreign = Foreign(
            places=tuple(places),
            source=source,
            log_format=log_format,
            since_s=since,
            aws=AwsAccess(region=region, profile=profile, endpoint_url=endpoint_url),
        )
        told = collect(self.settings, foreign, now=time.time(), say=self.say)
        for notice in told.notices:
            self.say(f"warning: {notice}")
        return told

    def ingest(self, *, all_runs: bool = False) -> "IngestReport":
        """Finished log files into Delta tables, joined with MLflow's runs; safe to run again.

        Of a large store only the runs are read that may have changed since the last time, and what
        is left for later is told; ``all_runs`` reads them all again.

        Raises:
            LogFolderError: there is no log folder, or no sidecar's log in it.
            MissingToolError: Java, Spark or Delta is not there.
            LakeError: Spark or a table failed.
            TrackingError: the runs cannot be read; what was ingested stays.
        """
        from meshml_dbx.recording.read import list_sidecars

        list_sidecars(self.settings.logs)  # before a folder is made for the lock
        with self._desk.writing():
            return self._ingest(all_runs=all_runs)

    def _ingest(self, *, all_runs: bool = False) -> "IngestReport":
        from meshml_dbx import sidecar
        from meshml_dbx.recording.read import list_sidecars

        folder, logs = self.settings.folder, self.settings.logs
        list_sidecars(logs)
        spark, names = self._desk.open()
        prepare_state(self.settings.state)
        # Only now: the module needs pyspark, whose absence the line above explains.
        from meshml_dbx.lake.ingest import ingest

        self.say("asking living sidecars to finish their files, taking over those of dead ones")
        asked_at = time.time_ns() // 1000
        asked = sidecar.request_close(folder).silent
        adopted = {one.sidecar_id for one in sidecar.adopt(folder, logs)}
        silent = [one for one in asked if one not in adopted]
        # Runs first: calls that come after them are joined as they come, and only once.
        unreadable: TrackingError | None = None
        try:
            for notice in self._bring_in_runs(spark, names, all_runs=all_runs):
                self.say(notice)
        except TrackingError as error:  # calls come in all the same
            unreadable = error
        self.say("reading finished log files into Delta, joined with their runs")
        report = ingest(
            spark,
            names,
            logs=str(logs.absolute()),
            checkpoint=str(folder.checkpoints.absolute() / "ingest"),
        )
        self._remember_formats(spark, names)
        if unreadable:
            raise unreadable
        if silent:
            self.say(f"warning: {', '.join(silent)} did not finish its files: ingest again")
        else:
            self._desk.remember_ingested(ended_before=asked_at)
        return report

    def watch(self, show: "Callable[[WatchView], bool]", *, settle_s: float = 30.0) -> None:
        """Ingest that goes on until ``show``, given a view each second, returns False.

        Rows come within seconds, what is made of them after ``settle_s``, and all at the end.

        Raises:
            MissingToolError: Java, Spark or Delta is not there.
            LakeError: Spark or a table failed, or another ingest is at work on this lake.
            TrackingError: the runs cannot be read.
        """
        from meshml_dbx.recording.in_flight import InFlight
        from meshml_dbx.watching import Rounds, watch

        with self._desk.writing():
            rounds = Rounds(lake=_WatchedLake(self), settle_s=settle_s)
            watch(rounds, InFlight(logs=self.settings.logs).look, show)

    def quarantine(
        self, *, source: str | None = None, reason: str | None = None, limit: int = 20
    ) -> "Quarantine":
        """The lines that no table takes, by reason, with a scrubbed example of each.

        ``reason``: how it begins. ``limit``: at most so many reasons, the most frequent first.

        Raises:
            MissingToolError: Java, Spark or Delta is not there.
            LakeError: Spark or a table failed.
        """
        spark, names = self._desk.open()
        from meshml_dbx.lake.quarantined import Chosen, read_quarantine

        return read_quarantine(spark, names, Chosen(source=source, reason=reason), limit=limit)

    def replay(
        self,
        *,
        source: str | None = None,
        reason: str | None = None,
        log_format: str | None = None,
    ) -> "Replayed":
        """Lines in quarantine, read again from the log folder: what can be read now becomes rows.

        ``log_format``, with ``source``: a format that the source has, too. Safe to run again.

        Raises:
            LogFolderError: there are no logs of that source.
            LogFormatError: the format is none of Envoy's.
            UnknownNameError: no format has that name.
            MissingToolError: Java, Spark or Delta is not there.
            LakeError: Spark or a table failed.
        """
        if source and log_format:
            from meshml_dbx.collecting import add_format

            add_format(self.settings, source, log_format)
        with self._desk.writing():
            spark, names = self._desk.open()
            from meshml_dbx.lake.quarantined import Chosen, replay

            self.say("reading lines in quarantine again")
            chosen = Chosen(source=source, reason=reason)
            return replay(spark, names, logs=str(self.settings.logs.absolute()), chosen=chosen)

    def _remember_formats(self, spark: "SparkSession", names: "TableNames") -> None:
        """Note the formats of a user's own, for whoever asks what a null in their rows means."""
        from meshml_dbx.lake.formats import remember_formats
        from meshml_dbx.traffic.log_source import SOURCE_FILE, LogSource

        formats: list[LogFormat] = []
        for note in sorted(self.settings.logs.glob(f"*/{SOURCE_FILE}")):
            try:
                formats += LogSource.from_json(note.read_text(encoding="utf-8")).log_formats
            except LogFormatError as error:
                self.say(f"warning: {note}: {error}")
        remember_formats(spark, names, formats)

    def cost(
        self,
        *,
        days: int = 7,
        billing: str | None = None,
        prices: str | None = None,
    ) -> "WaitCosts":
        """Which service cost whose models how much waiting in the last days: money, where billed.

        ``billing`` and ``prices``: tables, or folders of copies, in the place of Databricks'
        ``system.billing.usage`` and ``system.billing.list_prices``. Works the table ``cost`` out
        again for these days.

        Raises:
            MissingToolError: Java, Spark or Delta is not there.
            LakeError: Spark or a table failed.
        """
        spark, names = self._desk.open()
        from meshml_dbx.lake.cost import Bill
        from meshml_dbx.lake.wait_cost import read_wait_costs

        self.say("reading the bill" if names.folder is None or billing else "reading the lake")
        since = datetime.now(UTC).date() - timedelta(days=days)
        bill = Bill(usage=billing, prices=prices)
        return read_wait_costs(spark, names, bill=bill, since=since)

    def prune(self, *, keep_days: float, dry_run: bool = False) -> "Pruned":
        """What of the lake is older than so many days, removed, or with ``dry_run`` only counted.

        Rows of runs that still last stay. Files leave the disk when the tables are vacuumed.

        Raises:
            MissingToolError: Java, Spark or Delta is not there.
            LakeError: Spark or a table failed.
        """
        spark, names = self._desk.open()
        from meshml_dbx.lake.prune import prune

        self.say("counting old rows" if dry_run else "removing old rows")
        before = int((time.time() - keep_days * 86400) * 1_000_000)
        return prune(spark, names, before=before, dry_run=dry_run)

    def start_spark(self) -> None:
        """Start Spark and open the lake, so that the next journey, and SQL, finds them up.

        Raises:
            MissingToolError: Java, Spark or Delta is not there.
            LakeError: Spark did not start, or the lake cannot be opened.
        """
        self._desk.make_views()

    def sql(self, query: str) -> "DataFrame":
        """What a query says of the lake's tables and views, as ``FROM {lake}.calls`` names them.

        Raises:
            MissingToolError: Java, Spark or Delta is not there.
            LakeError: Spark did not start, or the lake cannot be opened.
        """
        spark, names = self._desk.open()
        return spark.sql(query.replace("{lake}", names.schema))

    def runs(self) -> tuple[Run, ...]:
        """MLflow's newest runs, oldest first: up to 10,000 of a file, 1,000 of a server.

        Raises:
            TrackingError: the store is missing or cannot be read.
        """
        return connect.read_runs(self.settings.tracking)

    def _bring_in_runs(
        self, spark: "SparkSession", names: "TableNames", *, all_runs: bool = False
    ) -> tuple[str, ...]:
        """Put what is new of MLflow's runs into the lake; what was left for later.

        Raises:
            TrackingError: the runs cannot be read.
        """
        from meshml_dbx import lake

        tracking = self.settings.tracking
        mark = lake.read_run_mark(spark, names, connect.store_name(tracking))
        read = connect.read_changed_runs(
            tracking,
            mark=None if all_runs else mark,
            unsettled=lake.unsettled_runs(spark, names) if mark else (),
        )
        lake.store_runs(spark, names, read.runs)
        lake.keep_run_mark(spark, names, read.mark)
        return read.notices


class _WatchedLake:
    """What a watch does with the lake, round by round."""

    def __init__(self, journeys: LakeJourneys) -> None:
        self._journeys = journeys
        self._watcher: Watcher | None = None

    def catch_up(self) -> Mapping[str, int]:
        report = self._journeys._ingest()
        from meshml_dbx.lake.watch import Watcher

        spark, names = self._journeys._desk.open()
        self._watcher = Watcher(spark=spark, names=names, logs=self._journeys.settings.logs)
        return asdict(report)

    def take(self) -> Mapping[str, int]:
        from meshml_dbx import sidecar

        settings = self._journeys.settings
        sidecar.request_close(settings.folder)
        sidecar.adopt(settings.folder, settings.logs)
        return self._watcher.take() if self._watcher else {}

    def settle(self) -> float | None:
        if self._watcher is None or self._watcher.is_settled:
            return None
        spark, names = self._journeys._desk.open()
        self._journeys._bring_in_runs(spark, names)
        return self._watcher.settle()
