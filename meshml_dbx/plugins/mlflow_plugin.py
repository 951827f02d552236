"""The MLflow run-context plugin: every run started under ``meshml run`` names its process.

MLflow loads it while ``import mlflow`` is under way, and any error but ImportError would break
that import. So this module imports nothing of MLflow and nothing heavy: MLflow asks a provider
only for its two methods, not for its base class.
"""

import os

from meshml_dbx.traffic.context import (
    CLIENT_TAG,
    CLIENT_VARIABLE,
    PROCESS_TAG,
    PROCESS_VARIABLE,
    job_context,
    job_tags,
)

_TAGS = {PROCESS_TAG: PROCESS_VARIABLE, CLIENT_TAG: CLIENT_VARIABLE}


class MeshRunContext:
    """Tags a run with the process and client whose calls are its own; silent elsewhere.

    >>> MeshRunContext().in_context()
    False
    """

    def in_context(self) -> bool:
        """Whether this process was started by ``meshml run``."""
        return bool(os.environ.get(PROCESS_VARIABLE))

    def tags(self) -> dict[str, str]:
        """The tags by which calls find their run."""
        found = ((tag, os.environ.get(variable)) for tag, variable in _TAGS.items())
        return {tag: value for tag, value in found if value} | job_tags(job_context(os.environ))
