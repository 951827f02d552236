"""``meshml ingest`` and ``why``."""

from dataclasses import asdict
from pathlib import Path
from typing import Literal

import click

from meshml_dbx.cli import options
from meshml_dbx.cli.output import print_json, print_table
from meshml_dbx.cli.since import read_since

ALWAYS = ("files", "lines", "quarantined")
"""The counts of an ingest that are shown also when they are 0."""


@click.command(short_help="Bring finished log files into Delta tables, joined with runs.")
@options.options(
    options.state, options.logs, options.lake, options.tracking, options.as_json, options.quiet
)
@click.option("--metrics", is_flag=True, help="Write each finished run's waits to MLflow, too.")
@click.option("--all-runs", is_flag=True, help="Read all MLflow runs again, not what is new only.")
@click.argument("places", nargs=-1, metavar="[PLACE]...")
@click.option(
    "--source",
    metavar="NAME",
    help="What PLACE's logs are called. [log group, bucket; of files: others]",
)
@click.option(
    "--format", "log_format", metavar="FORMAT", help="Of PLACE's lines. [told from the lines]"
)
@click.option(
    "--observer",
    type=click.Choice(["egress", "ingress", "gateway"]),
    help="Whose side PLACE's logs are seen from. [told from each line]",
)
@click.option("--client", help="Who made the calls of PLACE's logs, where all are one client's.")
@click.option(
    "--since",
    metavar="2d",
    callback=read_since,
    help="How far back a log group or bucket is read: 30m, 6h, 2d, a date. [a group: 1h; then on]",
)
@click.option("--region", help="AWS's region of log groups and buckets. [AWS's own settings]")
@click.option("--profile", help="AWS's profile to read them with. [AWS's own settings]")
@click.option("--endpoint-url", metavar="URL", help="Another server that speaks as AWS does.")
def ingest(
    *,
    places: tuple[str, ...],
    source: str | None,
    log_format: str | None,
    observer: Literal["egress", "ingress", "gateway"] | None,
    client: str | None,
    since: float | None,
    region: str | None,
    profile: str | None,
    endpoint_url: str | None,
    state: Path | None,
    logs: Path | None,
    lake: str | None,
    tracking: str | None,
    as_json: bool,
    quiet: bool,
    metrics: bool,
    all_runs: bool,
) -> None:
    """Bring finished log files into Delta tables and join them with MLflow runs.

    Living sidecars are asked to finish their files first; those of dead ones are taken over. Run
    it as often as you like: each line arrives once.

    MLflow's runs are all read the first time, later those that may have changed: what began, ended
    or was deleted lately, what lasts, and a part of the older ones in turn.

    PLACE is a file, folder or pattern of access logs that others write, a log group of CloudWatch
    (cloudwatch:GROUP, or cloudwatch:GROUP:PREFIX for streams that begin so), or the objects of a
    bucket (s3://BUCKET/PREFIX). Envoy, App Mesh, Istio, VPC Lattice, ECS Service Connect, rotated
    and gzipped as they may be, or wrapped by Firehose. Another FORMAT is given as Envoy has it, as
    text or JSON template. Query values and credentials reach no table.

    A log group is read from an hour ago on, or from --since, and from then on where it stopped.

    \b
    Examples:
      meshml ingest --tracking sqlite:///mlflow.db
      meshml ingest --metrics --all-runs
      meshml ingest /var/log/envoy --source edge --observer gateway
      meshml ingest 'logs/*.gz' --format '%START_TIME% %RESPONSE_CODE% %REQ(X-REQUEST-ID)%'
      meshml ingest cloudwatch:/ecs/ml:envoy/ --since 2d --region eu-west-1
      meshml ingest s3://mesh-logs/envoy/ cloudwatch:/ecs/ml --source ml
    """
    session = options.open_session(
        state=state, logs=logs, lake=lake, tracking=tracking, quiet=quiet
    )
    collected: dict[str, object] = {}
    if places:
        # Only now: it compiles every known format, which no other command should wait for.
        from meshml_dbx.traffic.log_source import LogSource

        whose = LogSource(source_id=source or "", observer=observer, client=client)
        told = session.collect(
            places,
            whose,
            log_format=log_format,
            since=since,
            region=region,
            profile=profile,
            endpoint_url=endpoint_url,
        )
        collected = {"collected": asdict(told)}
    report = session.ingest(all_runs=all_runs)
    if metrics:
        session.write_metrics()
    counts = {"files": report.files, "lines": report.lines, **asdict(report)}
    if as_json:
        print_json({**counts, **collected})
        return
    shown = [f"{name} {count}" for name, count in counts.items() if count or name in ALWAYS]
    click.echo(f"ingested: {' · '.join(shown)}")
    click.echo(f"next: {session.next_command('why', 'last')}")


@click.command(short_help="Say which service, route or retry storm slows a run.")
@click.argument("run", required=False, default="last")
@options.options(
    options.state, options.logs, options.lake, options.tracking, options.as_json, options.quiet
)
@click.option("--live", is_flag=True, help="Read the log folder, also of a run that goes on.")
@click.option("--baseline", metavar="RUN", help="The run to compare with. [recent finished runs]")
@click.option("--evidence", is_flag=True, help="Show the calls that prove it.")
@click.option("--html", type=click.Path(path_type=Path), help="Write the report page here.")
@click.option("--log", is_flag=True, help="Attach the report page to the MLflow run.")
@click.option("--causes", is_flag=True, help="Explain every cause, and stop.")
def why(
    *,
    run: str,
    state: Path | None,
    logs: Path | None,
    lake: str | None,
    tracking: str | None,
    as_json: bool,
    quiet: bool,
    live: bool,
    baseline: str | None,
    evidence: bool,
    html: Path | None,
    log: bool,
    causes: bool,
) -> None:
    """Say which service, route or retry storm slows RUN, with the calls that prove it.

    RUN is an MLflow run id or the beginning of one, a run's name, the address of a run's page, or
    `last`. Answers from the lake where `ingest` has brought the run in, else from the log folder.

    \b
    Examples:
      meshml why last
      meshml why 4f1c0b --evidence
      meshml why churn-training --live --json
    """
    session = options.open_session(
        state=state, logs=logs, lake=lake, tracking=tracking, quiet=quiet
    )
    if causes and as_json:
        print_json(session.causes())
        return
    if causes:
        print_table(("cause", "means"), session.causes().items())
        return
    answer = session.why(run, live=live, baseline=baseline)
    if html:
        session.write_page(answer, html)
    if log:
        session.log_page(answer)
    if as_json:
        print_json(answer.to_json())
        return
    click.echo(session.answer_text(answer, page=html))
    if evidence:
        print_table(*session.evidence_rows(answer))
