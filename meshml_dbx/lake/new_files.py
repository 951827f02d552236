"""Which closed files are new, as a stream of their paths: Auto Loader's where there is one.

Goes in: a log folder, and the environment, which tells where this runs. Comes out: a stream whose
content is never read. What it tells twice, or again after its checkpoint is gone, the lake's own
book leaves out, so both ways to know what is new end in the same rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyspark.sql import DataFrame, SparkSession

from meshml_dbx.lake.sources import closed_glob

RUNTIME_VARIABLE = "DATABRICKS_RUNTIME_VERSION"
VOLUMES = "/Volumes/"
FILE_SCHEMA = "path STRING, modificationTime TIMESTAMP, length BIGINT, content BINARY"
FOREVER = "36500d"
"""Spark's source skips files a week older than the newest: those of dead sidecars, adopted late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileNews:
    """How new files are found; each way needs a checkpoint of its own, since neither reads the
    other's.

    >>> FileNews(source="binaryFile").checkpoint_suffix
    ''
    """

    source: str
    options: Mapping[str, str] = field(default_factory=dict)
    checkpoint_suffix: str = ""


def file_news(root: str, environ: Mapping[str, str], files_per_batch: int) -> FileNews:
    """The way for a log folder: Auto Loader on Databricks' runtimes for folders in a volume.

    It watches cloud storage; a folder on the driver's disk it would not find. It lists nothing
    again that it has seen, so that the time it takes does not grow with the folder.

    >>> file_news("/Volumes/main/mesh/logs", {"DATABRICKS_RUNTIME_VERSION": "17.3"}, 9).source
    'cloudFiles'
    """
    if environ.get(RUNTIME_VARIABLE) and f"{root}/".startswith(VOLUMES):
        options = {
            "cloudFiles.format": "binaryFile",
            "cloudFiles.maxFilesPerTrigger": str(files_per_batch),
            "cloudFiles.includeExistingFiles": "true",
        }
        return FileNews(source="cloudFiles", options=options, checkpoint_suffix="-cloudfiles")
    plain = {"maxFilesPerTrigger": str(files_per_batch), "maxFileAge": FOREVER}
    return FileNews(source="binaryFile", options=plain)


def new_files(spark: SparkSession, news: FileNews, root: str) -> DataFrame:
    """The stream of new closed files' paths.

    With a schema, Auto Loader infers none, and needs no place to keep one.
    """
    stream = spark.readStream.format(news.source).schema(FILE_SCHEMA).options(**news.options)
    return stream.load(closed_glob(root)).select("path")
