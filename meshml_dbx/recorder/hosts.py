"""What people call the address of a call: a bucket, an endpoint, the tracking server, a service.

Goes in: authority and path. Comes out: the name that stands where a mesh has its virtual service.
"""

import re
from functools import lru_cache

from meshml_dbx.recorder.plan import NamedHost, RecorderPlan

_ENDPOINT = re.compile(r"^/(?:api/2\.0/)?serving-endpoints/([^/]+)(?:/|$)")
_MLFLOW = re.compile(r"^/(?:api|ajax-api)/[0-9.]+/(?:preview/)?mlflow(?:-artifacts)?(?:/|$)")
_WORKSPACES = (
    ".cloud.databricks.com",
    ".azuredatabricks.net",
    ".gcp.databricks.com",
)
_BUCKET_FIRST = re.compile(r"^(.+)\.s3(?:[.-][a-z0-9-]+)*\.amazonaws\.com(?:\.cn)?$")
_BUCKET_IN_PATH = re.compile(r"^s3(?:[.-][a-z0-9-]+)*\.amazonaws\.com(?:\.cn)?$")
_AWS = re.compile(r"^(?:[^.]+\.)*?([a-z0-9-]+)\.(?:[a-z]{2}(?:-[a-z]+)+-[0-9]\.)?amazonaws\.com$")

TRACKING = "MLflow tracking"
WORKSPACE = "workspace API"


class Hosts:
    """Names addresses by the mesh file first, then by what is known of the host.

    >>> from pathlib import Path
    >>> hosts = Hosts(RecorderPlan(logs=Path(), client="c", process_id="p"))
    >>> hosts.name_of("data.s3.eu-west-1.amazonaws.com", "/x/1.parquet").virtual_service
    'S3 bucket data'
    >>> hosts.name_of("labels.example.com", "/v1").virtual_service
    'labels.example.com'
    """

    def __init__(self, plan: RecorderPlan) -> None:
        self._plan = plan
        # Only paths whose begin can name something are kept apart: else the cache would be useless.
        self._name = lru_cache(maxsize=4096)(self._find)

    def name_of(self, authority: str, path: str) -> NamedHost:
        """The name of what is called."""
        return self._name(authority, _telling(authority, path))

    def _find(self, authority: str, path: str) -> NamedHost:
        declared = self._plan.hosts.get(authority)
        return declared or NamedHost(virtual_service=self._known(authority, path) or authority)

    def _known(self, authority: str, path: str) -> str | None:
        host = authority.partition(":")[0]
        is_workspace = authority == self._plan.workspace or host.endswith(_WORKSPACES)
        if authority == self._plan.tracking and not is_workspace:
            return TRACKING
        if is_workspace:
            return _of_workspace(path)
        return _of_aws(host, path)


def _telling(authority: str, path: str) -> str:
    """As much of a path as may say what is called."""
    if authority.startswith("s3"):
        return "/".join(path.split("/", 2)[:2])
    return "/".join(path.split("/", 6)[:6])


def _of_workspace(path: str) -> str:
    endpoint = _ENDPOINT.match(path)
    if endpoint:
        return f"serving endpoint {endpoint[1]}"
    return TRACKING if _MLFLOW.match(path) else WORKSPACE


def _of_aws(host: str, path: str) -> str | None:
    bucket = _BUCKET_FIRST.match(host)
    if bucket:
        return f"S3 bucket {bucket[1]}"
    if _BUCKET_IN_PATH.match(host):
        name = path.split("/", 2)[1] if path.count("/") else ""
        return f"S3 bucket {name}" if name else "S3"
    service = _AWS.match(host)
    return f"AWS {service[1]}" if service else None
