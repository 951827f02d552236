"""Clients of AWS, made where they are used: on a driver, on executors, on this machine.

Goes in: region, endpoint and profile, or none for what AWS's own chain finds. Comes out: a client.
These functions are passed by reference to where clients are needed, since no client can be pickled.
"""

from typing import Any

from meshml_dbx.errors import LakeError, MissingToolError

TRIES = 10
"""Of each request; botocore waits between them, and slows down while it is throttled."""
CONNECTIONS = 16
"""At most, of a client that several threads use."""


def logs_client(
    region: str | None = None, endpoint_url: str | None = None, profile: str | None = None
) -> Any:
    """A client of CloudWatch Logs that is patient with throttling.

    Raises:
        MissingToolError: boto3 is not installed.
        LakeError: no region is given or configured, or there is no such profile.
    """
    return _client("logs", "CloudWatch Logs", region, endpoint_url, profile)


def s3_client(
    region: str | None = None, endpoint_url: str | None = None, profile: str | None = None
) -> Any:
    """A client of S3, or of what speaks like it at ``endpoint_url``, where buckets are paths.

    Raises:
        MissingToolError: boto3 is not installed.
        LakeError: there is no such profile, or the endpoint is no address.
    """
    style = {"s3": {"addressing_style": "path"}} if endpoint_url else {}
    return _client("s3", "S3", region, endpoint_url, profile, **style)


def _client(
    service: str,
    title: str,
    region: str | None,
    endpoint_url: str | None,
    profile: str | None,
    **options: Any,
) -> Any:
    try:
        import boto3  # type: ignore[import-untyped]  # ships without types
        from botocore.config import Config  # type: ignore[import-untyped]  # as boto3
        from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]  # as boto3
    except ImportError as error:
        raise MissingToolError(
            f"reading {title} needs boto3, which is not installed",
            advice='pip install "meshml_dbx[aws]"',
        ) from error

    retries = {"mode": "adaptive", "total_max_attempts": TRIES}
    config = Config(retries=retries, max_pool_connections=CONNECTIONS, **options)
    try:
        session = boto3.session.Session(region_name=region, profile_name=profile)
        return session.client(service, endpoint_url=endpoint_url, config=config)
    except (BotoCoreError, ValueError) as error:
        raise LakeError(
            f"cannot make a client of {title} (region {region or 'not given'}, "
            f"profile {profile or 'not given'}): {error}",
            advice="name the region, e.g. eu-west-1, or set AWS_REGION; profiles are listed by: "
            "aws configure list-profiles",
        ) from error
