"""``meshml ingest`` from log groups and buckets: what comes, once, and what is said when it cannot.

Moto asks nobody who he is, so what is denied is a scripted server's.
"""

import json
import time
from pathlib import Path

import pytest

import meshml_dbx
from tests.cli.test_ingest_command import assert_refused, site_without
from tests.desk import Desk
from tests.lake.aws_lab import KEYS, REGION, client_at, moto_server, put, refusal, scripted_logs
from tests.lake.test_bucket import WHERE
from tests.lake.test_firehose import document

GROUP, BUCKET = "/ecs/edge", "edge-logs"
LINE = (
    '[2026-03-04T09:15:{:02}.114Z] "GET /v1/x HTTP/1.1" 200 - 10 322 41 39 "-" "trainer/1.4" '
    '"r{}" "labels.ml:8080" "10.0.12.31:8080"'
)
TWIN = LINE.format(59, "-")
ALONE = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/no", "HOME": "/no/home"}
"""A machine on which AWS's chain of credentials finds none."""


def lines(first: int, last: int) -> list[str]:
    """Lines of Envoy's default format."""
    return [LINE.format(number, number) for number in range(first, last)]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A folder in which nothing was recorded yet."""
    return Desk(folder=tmp_path, runs={})


# --- what is missing ------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["cloudwatch:/none", "s3://none-such"])
def test_a_place_that_is_not_there(desk: Desk, place: str) -> None:
    """Neither group nor bucket: named, with how to list what there is."""
    with moto_server() as url:
        done = desk.meshml("ingest", "--quiet", place, *at(url), cwd=desk.folder, **KEYS)
    assert_refused(done, "there is no such", "list them: aws")


def test_denied_and_throttled(desk: Desk) -> None:
    """AWS's refusals come in our words; a span that is none is wrong use."""
    with scripted_logs(lambda _: refusal("AccessDeniedException")) as url:
        done = desk.meshml("ingest", "--quiet", "cloudwatch:/x", *at(url), cwd=desk.folder, **KEYS)
    assert_refused(done, "group /x in region eu-west-1: access is denied", "logs:FilterLogEvents")
    done = desk.meshml("ingest", "cloudwatch:/x", "--since", "yesterday")
    assert (done.status, "'yesterday' is no span" in done.err) == (2, True)


@pytest.mark.parametrize("place", ["cloudwatch:/x", "s3://mesh-logs"])
def test_no_credentials(desk: Desk, place: str) -> None:
    """It is said which ways there are to have some."""
    done = desk.meshml("ingest", "--quiet", place, "--region", REGION, cwd=desk.folder, **ALONE)
    assert_refused(done, "there are no credentials", "AWS_ACCESS_KEY_ID")


def test_neither_region_nor_profile(desk: Desk) -> None:
    """A client cannot be made: what was not given is named."""
    done = desk.meshml("ingest", "--quiet", "cloudwatch:/x", cwd=desk.folder, **ALONE)
    assert_refused(done, "region not given", "AWS_REGION")
    done = desk.meshml(
        "ingest", "--quiet", "s3://logs-of-x", "--profile", "nobody", cwd=desk.folder, **ALONE
    )
    assert_refused(done, "profile nobody", "aws configure list-profiles")


def test_boto3_is_not_installed(desk: Desk, tmp_path: Path) -> None:
    """The extra that brings it is named."""
    site = site_without(tmp_path / "site", "boto")
    root = Path(meshml_dbx.__file__).parents[1]
    done = desk.python(
        *("-S", "-m", "meshml_dbx", "ingest", "--quiet", "s3://mesh-logs"),
        PYTHONPATH=f"{root}:{site}",
    )
    assert_refused(done, "reading S3 needs boto3", 'pip install "meshml_dbx[aws]"')


def at(url: str) -> tuple[str, ...]:
    """The options that ask a server of the test's own."""
    return ("--region", REGION, "--endpoint-url", url)


# --- what it does ---------------------------------------------------------------------------------


@pytest.mark.spark
@pytest.mark.timeout(1500)
def test_a_call_by_two_roads_is_one_row(desk: Desk, mlflow_store: Path) -> None:
    """From a log group and, by Firehose, from a bucket, under one name: each call once.

    Two calls that are alike to the letter stay two; what Firehose delivers again changes nothing.
    """
    tracking = ("--tracking", f"sqlite:///{mlflow_store}")
    with moto_server() as url:
        logs, s3 = client_at(url), client_at(url, "s3")
        put(logs, GROUP, int(time.time() * 1000) - 60_000, [*lines(0, 20), TWIN, TWIN])
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration=WHERE)
        for key in ("a/1", "a/2"):
            s3.put_object(Bucket=BUCKET, Key=key, Body=document(0, [*lines(10, 30), TWIN, TWIN]))
        places = (f"cloudwatch:{GROUP}", f"s3://{BUCKET}/a/")
        command = ("ingest", *places, "--source", "edge", *at(url), *tracking, "--json")
        first = desk.meshml(*command, cwd=desk.folder, **KEYS)
        again = desk.meshml(*command, "--quiet", cwd=desk.folder, **KEYS)
    assert (first.status, again.status, again.err) == (0, 0, ""), first.err + again.err
    assert "edge: reading cloudwatch:/ecs/edge in eu-west-1" in first.err.splitlines()
    told = json.loads(first.out)
    assert (told["collected"]["files"], told["files"]) == (3, 3)
    assert told["collected"]["sources"] == ["edge"]
    assert (told["ended"], told["duplicates"], told["quarantined"]) == (66, 34, 0)
    repeated = json.loads(again.out)
    assert repeated.pop("collected")["files"] == 0
    assert {name for name, count in repeated.items() if count} == set()
