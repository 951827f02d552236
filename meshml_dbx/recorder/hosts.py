"""What people call the address of a call: a bucket, an endpoint, the tracking server, a service.

Goes in: authority and path. Comes out: the name that stands where a mesh has its virtual service.
"""

import re
from collections.abc import Callable
from functools import lru_cache

from meshml_dbx.recorder.plan import NamedHost, RecorderPlan

TRACKING = "MLflow tracking"
WORKSPACE = "workspace API"

_WORKSPACES = (
    ".cloud.databricks.com",
    ".azuredatabricks.net",
    ".gcp.databricks.com",
    ".cloud.databricks.us",
    ".databricks.azure.us",
    ".databricks.azure.cn",
)
_ACCOUNTS = frozenset(f"accounts{domain}" for domain in _WORKSPACES)

# What asks an endpoint; the rest of /api/2.0/serving-endpoints only keeps them. One that is
# route-optimised has a host of its own, and the workspace's number first in its path.
_ENDPOINT = re.compile(
    r"^(?:/[0-9]+|/api/2\.0)?/(?:serving-endpoints/([^/]+)/(?:served-models/[^/]+/)?|model/([^/]+)/[^/]+/)"
    r"invocations$"
)
_ANY_ENDPOINT = "/serving-endpoints/"
_MLFLOW = re.compile(r"^/(?:api|ajax-api)/[0-9.]+/(?:preview/)?mlflow(?:-artifacts)?(?:/|$)")
_FILES = "/api/2.0/fs/"

_REGION = r"[a-z]{2}(?:-[a-z]+)+-[0-9]+"
_S3 = re.compile(
    rf"^(?:(.+?)\.)??(?:bucket\.vpce-[a-z0-9-]+\.)?s3(?:-[a-z0-9-]+)?(?:\.(?:dualstack|{_REGION}))*"
    r"(?:\.vpce)?\.amazonaws\.com(?:\.cn)?$"
)
_AWS = re.compile(r"^(.+?)\.(?:amazonaws\.com(?:\.cn)?|api\.aws)$")
_AWS_PLACE = re.compile(rf"^(?:{_REGION}|dualstack|vpce|vpce-.+)$")
_AWS_PARTS = frozenset(("api", "runtime", "streams"))
"""What may stand before a service's name; other names there are of people's own machines."""

_AZURE_STORAGE = re.compile(r"^([a-z0-9]+)\.(?:blob|dfs)\.core\.windows\.net$")
_GOOGLE_STORAGE = "storage.googleapis.com"

Naming = str | Callable[[str], str]
"""A name, or what finds it by the path."""


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
        # By authority and by name, never by path: of those there is no end.
        self._naming = lru_cache(maxsize=1024)(self._find_naming)
        self._named = lru_cache(maxsize=1024)(_named)

    def name_of(self, authority: str, path: str) -> NamedHost:
        """The name of what is called."""
        declared = self._plan.hosts.get(authority)
        if declared is not None:
            return declared
        naming = self._naming(authority)
        return self._named(naming if isinstance(naming, str) else naming(path))

    def _find_naming(self, authority: str) -> Naming:
        host = authority.partition(":")[0]
        if host in _ACCOUNTS:
            return "account API"
        if authority == self._plan.workspace or host.endswith(_WORKSPACES):
            return _of_workspace
        if authority == self._plan.tracking:
            return TRACKING
        known = _of_amazon(host) or _of_other_clouds(host)
        # A program may name its tracking server in its code, where nobody sees it but by its paths.
        return known or (lambda path: TRACKING if _MLFLOW.match(path) else authority)


def _named(name: str) -> NamedHost:
    return NamedHost(virtual_service=name)


def _of_workspace(path: str) -> str:
    endpoint = _ENDPOINT.match(path)
    if endpoint:
        return f"serving endpoint {endpoint[1] or endpoint[2]}"
    if path.startswith(_ANY_ENDPOINT):  # as OpenAI has it: which one stands in the request's body
        return "serving endpoints"
    if path.startswith(_FILES):
        return "Unity Catalog volumes"
    return TRACKING if _MLFLOW.match(path) else WORKSPACE


def _of_amazon(host: str) -> Naming | None:
    s3 = _S3.match(host)
    if s3:
        return f"S3 bucket {s3[1]}" if s3[1] else _bucket_in_path
    found = _AWS.match(host)
    labels = [] if found is None else [one for one in found[1].split(".") if not _is_place(one)]
    if len(labels) == 1 or (len(labels) == 2 and labels[0] in _AWS_PARTS):  # noqa: PLR2004  # part and service
        return f"AWS {labels[-1].removesuffix('-fips')}"
    return None


def _is_place(label: str) -> bool:
    return _AWS_PLACE.match(label) is not None


def _bucket_in_path(path: str) -> str:
    bucket = path.removeprefix("/").partition("/")[0]
    return f"S3 bucket {bucket}" if bucket else "S3"


def _of_other_clouds(host: str) -> str | None:
    azure = _AZURE_STORAGE.match(host)
    if azure:
        return f"Azure storage {azure[1]}"
    return "Google Cloud storage" if host == _GOOGLE_STORAGE else None
