"""Which way new files are found: options alone, since Auto Loader runs on Databricks only."""

from meshml_dbx.lake.new_files import FILE_SCHEMA, FOREVER, FileNews, file_news

RUNTIME = {"DATABRICKS_RUNTIME_VERSION": "17.3"}
PLAIN = FileNews(source="binaryFile", options={"maxFilesPerTrigger": "50", "maxFileAge": FOREVER})


def test_auto_loader_for_volumes_on_a_runtime() -> None:
    """Its own names of options, a checkpoint of its own, and a schema, so that none is inferred."""
    news = file_news("/Volumes/main/mesh/logs", RUNTIME, 50)
    assert (news.source, news.checkpoint_suffix) == ("cloudFiles", "-cloudfiles")
    assert dict(news.options) == {
        "cloudFiles.format": "binaryFile",
        "cloudFiles.maxFilesPerTrigger": "50",
        "cloudFiles.includeExistingFiles": "true",
    }
    assert FILE_SCHEMA.startswith("path STRING, modificationTime TIMESTAMP")


def test_sparks_own_source_elsewhere() -> None:
    """On other machines, and on a runtime for folders that lie on the driver's own disk."""
    assert file_news("/Volumes/main/mesh/logs", {}, 50) == PLAIN
    assert file_news("/tmp/meshml-1000/logs", RUNTIME, 50) == PLAIN  # noqa: S108  # only a name
    assert file_news("/VolumesNot/logs", RUNTIME, 50) == PLAIN
