"""Clients of AWS, made where they are used: on a driver, on executors, on this machine.

Goes in: region, endpoint and profile, or none for what AWS's own chain finds. Comes out: a client.
These functions are passed by reference to where clients are needed, since no client can be pickled.
"""

from typing import Any

from meshml_dbx.errors import LakeError, MissingToolError

TRIES = 10
"""Of each request; botocore waits between them, and slows down while it is throttled."""


def logs_client(
    region: str | None = None, endpoint_url: str | None = None, profile: str | None = None
) -> Any:
    """A client of CloudWatch Logs that is patient with throttling.

    Raises:
        MissingToolError: boto3 is not installed.
        LakeError: no region is given or configured, or there is no such profile.
    """
    try:
        import boto3  # type: ignore[import-untyped]  # ships without types
        from botocore.config import Config  # type: ignore[import-untyped]  # as boto3
        from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]  # as boto3
    except ImportError as error:
        raise MissingToolError(
            "reading CloudWatch Logs needs boto3, which is not installed",
            advice='pip install "meshml_dbx[aws]"',
        ) from error

    config = Config(retries={"mode": "adaptive", "total_max_attempts": TRIES})
    try:
        session = boto3.session.Session(region_name=region, profile_name=profile)
        return session.client("logs", endpoint_url=endpoint_url, config=config)
    except (BotoCoreError, ValueError) as error:
        raise LakeError(
            f"cannot make a client of CloudWatch Logs (region {region or 'not given'}, "
            f"profile {profile or 'not given'}): {error}",
            advice="name the region, e.g. eu-west-1, or set AWS_REGION; profiles are listed by: "
            "aws configure list-profiles",
        ) from error
