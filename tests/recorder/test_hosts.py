"""What people call what they call: buckets, endpoints, tracking servers, services."""

from pathlib import Path

import pytest

from meshml_dbx.recorder.hosts import Hosts
from meshml_dbx.recorder.plan import NamedHost, RecorderPlan


def hosts(**plan: object) -> Hosts:
    """Names under a plan."""
    return Hosts(RecorderPlan(logs=Path(), client="train", process_id="p", **plan))  # type: ignore[arg-type]  # a test's own keywords


@pytest.mark.parametrize(
    ("authority", "path", "expected"),
    [
        ("data.s3.amazonaws.com", "/x.parquet", "S3 bucket data"),
        ("data.s3.eu-west-1.amazonaws.com", "/", "S3 bucket data"),
        ("data.s3-eu-west-1.amazonaws.com", "/x", "S3 bucket data"),
        ("data.s3.dualstack.us-east-1.amazonaws.com", "/x", "S3 bucket data"),
        ("data.s3-fips.us-gov-west-1.amazonaws.com", "/x", "S3 bucket data"),
        ("data.s3-fips.dualstack.us-east-1.amazonaws.com", "/x", "S3 bucket data"),
        ("data.s3-accelerate.amazonaws.com", "/x", "S3 bucket data"),
        ("data.s3-accelerate.dualstack.amazonaws.com", "/x", "S3 bucket data"),
        ("data.s3.cn-north-1.amazonaws.com.cn", "/x", "S3 bucket data"),
        ("bucket.with.dots.s3.eu-west-1.amazonaws.com", "/x", "S3 bucket bucket.with.dots"),
        ("s3.s3.amazonaws.com", "/x", "S3 bucket s3"),
        ("logs.s3.eu.s3.eu-west-1.amazonaws.com", "/x", "S3 bucket logs.s3.eu"),
        ("s3.amazonaws.com", "/data/x/y.parquet", "S3 bucket data"),
        ("s3.eu-west-1.amazonaws.com", "/bucket.with.dots/x", "S3 bucket bucket.with.dots"),
        ("s3-eu-west-1.amazonaws.com", "/data", "S3 bucket data"),
        ("s3.dualstack.us-east-1.amazonaws.com", "/data/x", "S3 bucket data"),
        ("s3.cn-north-1.amazonaws.com.cn", "/data/x", "S3 bucket data"),
        ("s3.amazonaws.com", "/", "S3"),
        ("data.bucket.vpce-0a1b-2c3d.s3.us-east-1.vpce.amazonaws.com", "/x", "S3 bucket data"),
        ("bucket.vpce-0a1b-2c3d.s3.us-east-1.vpce.amazonaws.com", "/data/x", "S3 bucket data"),
        ("sts.amazonaws.com", "/", "AWS sts"),
        ("sts.us-east-1.amazonaws.com", "/", "AWS sts"),
        ("bedrock-runtime.us-east-1.amazonaws.com", "/model/x/invoke", "AWS bedrock-runtime"),
        ("runtime.sagemaker.eu-west-1.amazonaws.com", "/endpoints/x", "AWS sagemaker"),
        ("api.ecr.us-east-1.amazonaws.com", "/", "AWS ecr"),
        ("dynamodb.cn-north-1.amazonaws.com.cn", "/", "AWS dynamodb"),
        ("secretsmanager-fips.us-gov-west-1.amazonaws.com", "/", "AWS secretsmanager"),
        ("lambda.us-east-1.api.aws", "/", "AWS lambda"),
        ("vpce-0a1b-2c3d.sts.us-east-1.vpce.amazonaws.com", "/", "AWS sts"),
    ],
)
def test_what_amazon_hosts_has_its_service_or_its_bucket(
    authority: str, path: str, expected: str
) -> None:
    """Both styles of addressing, regions, dual stack, partitions and endpoints of a VPC."""
    assert hosts().name_of(authority, path) == NamedHost(virtual_service=expected)


@pytest.mark.parametrize(
    "authority",
    [
        "s3.us-east-1.amazonaws.com.example.org",
        "notamazonaws.com",
        "ec2-3-4-5-6.compute-1.amazonaws.com",
        "lb-1.us-east-1.elb.amazonaws.com",
        "a1b2c3.execute-api.us-east-1.amazonaws.com",
        "store.c0ffee.us-east-1.rds.amazonaws.com:5432",
        "adb-1.2.azuredatabricks.net.example.org",
        "labels.corp:8080",
    ],
)
def test_what_nobody_knows_is_called_by_its_address(authority: str) -> None:
    """People's own machines in a cloud, and names that only look like one, keep their address."""
    assert hosts().name_of(authority, "/data/x").virtual_service == authority


_WORKSPACES = (
    "adb-984752964297111.11.azuredatabricks.net",
    "dbc-a1b2c3d4-e5f6.cloud.databricks.com",
    "12345.6.gcp.databricks.com",
    "dbc-a1b2c3d4-e5f6.cloud.databricks.us",
    "adb-1.2.databricks.azure.us",
    "adb-1.2.databricks.azure.cn",
)


@pytest.mark.parametrize("workspace", _WORKSPACES)
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/2.0/preview/scim/v2/Me", "workspace API"),
        ("/api/2.1/clusters/list", "workspace API"),
        ("/api/2.0/serving-endpoints", "workspace API"),
        ("/api/2.0/serving-endpoints/fraud", "workspace API"),
        ("/api/2.0/serving-endpoints/fraud/config", "workspace API"),
        ("/api/2.0/serving-endpoints/fraud/invocations", "serving endpoint fraud"),
        ("/serving-endpoints/fraud/invocations", "serving endpoint fraud"),
        ("/serving-endpoints/fraud/served-models/fraud-1/invocations", "serving endpoint fraud"),
        ("/serving-endpoints/chat/completions", "serving endpoints"),
        ("/model/fraud/1/invocations", "serving endpoint fraud"),
        ("/api/2.0/mlflow/runs/log-metric", "MLflow tracking"),
        ("/api/2.1/mlflow/runs/search", "MLflow tracking"),
        ("/api/3.0/mlflow/traces", "MLflow tracking"),
        ("/ajax-api/2.0/preview/mlflow/runs/get", "MLflow tracking"),
        ("/api/2.0/mlflow-artifacts/artifacts/x", "MLflow tracking"),
        ("/api/2.0/fs/files/Volumes/c/s/v/x.parquet", "Unity Catalog volumes"),
        ("/api/2.1/unity-catalog/tables", "workspace API"),
        ("/", "workspace API"),
    ],
)
def test_a_workspace_is_told_by_what_is_asked_of_it(
    workspace: str, path: str, expected: str
) -> None:
    """One host answers for many services: a path names the endpoint, MLflow, or the rest."""
    assert hosts().name_of(workspace, path).virtual_service == expected


def test_the_configured_workspace_is_one_whatever_its_name() -> None:
    """A vanity address, or a fake in a test, is the workspace that the plan names."""
    named = hosts(workspace="127.0.0.1:8080")
    path = "/serving-endpoints/fraud/invocations"
    assert named.name_of("127.0.0.1:8080", path).virtual_service == "serving endpoint fraud"
    assert named.name_of("127.0.0.1:8081", path).virtual_service == "127.0.0.1:8081"


def test_an_endpoint_may_have_a_host_of_its_own() -> None:
    """Route-optimised endpoints have the workspace's number in their path."""
    path = "/984752964297111/serving-endpoints/fraud/invocations"
    named = hosts().name_of("c0ffee.serving.azuredatabricks.net", path)
    assert named.virtual_service == "serving endpoint fraud"


def test_a_tracking_server_is_the_one_that_mlflow_uses() -> None:
    """Everything at its address is MLflow's; elsewhere, and in a workspace, its paths decide."""
    named = hosts(tracking="mlflow.corp:5000")
    assert named.name_of("mlflow.corp:5000", "/anything").virtual_service == "MLflow tracking"
    assert named.name_of("mlflow.corp", "/anything").virtual_service == "mlflow.corp"
    assert named.name_of("other.corp", "/api/2.0/mlflow/runs/get").virtual_service == (
        "MLflow tracking"
    )
    both = hosts(tracking=_WORKSPACES[0], workspace=_WORKSPACES[0])
    assert both.name_of(_WORKSPACES[0], "/api/2.1/jobs/list").virtual_service == "workspace API"


@pytest.mark.parametrize(
    ("authority", "expected"),
    [
        ("acct.blob.core.windows.net", "Azure storage acct"),
        ("acct.dfs.core.windows.net", "Azure storage acct"),
        ("storage.googleapis.com", "Google Cloud storage"),
        ("accounts.cloud.databricks.com", "account API"),
        ("accounts.azuredatabricks.net", "account API"),
    ],
)
def test_other_clouds_have_names_too(authority: str, expected: str) -> None:
    """Storage of the other clouds, and Databricks' account, whose host is no workspace."""
    assert hosts().name_of(authority, "/x/y").virtual_service == expected


def test_a_mesh_file_knows_best() -> None:
    """What the file declares for an address has its virtual service and its node."""
    own = NamedHost(virtual_service="labels.ml.local", target="labels")
    named = hosts(hosts={"s3.amazonaws.com": own})
    assert named.name_of("s3.amazonaws.com", "/data") == own
