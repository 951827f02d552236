"""What a person types as a place of logs: files, log groups, buckets, and what is none of them."""

import pytest

from meshml_dbx.errors import LogFolderError
from meshml_dbx.lake.places import (
    BucketPlace,
    FilePlace,
    GroupPlace,
    by_source,
    name_of,
    parse_place,
)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("/var/log/envoy", FilePlace(pattern="/var/log/envoy")),
        ("./cloudwatch:odd.log", FilePlace(pattern="./cloudwatch:odd.log")),
        ("/Volumes/main/mesh/raw", FilePlace(pattern="/Volumes/main/mesh/raw")),
        ("cloudwatch:/ecs/ml", GroupPlace(group="/ecs/ml")),
        ("cloudwatch:a#b:task/1", GroupPlace(group="a#b", stream_prefix="task/1")),
        ("s3://logs", BucketPlace(bucket="logs")),
        ("s3a://logs/envoy/2026", BucketPlace(bucket="logs", prefix="envoy/2026")),
    ],
)
def test_a_place_is_told_by_how_it_begins(text: str, place: object) -> None:
    """A path stays a path; a group's name may hold a #, so a colon ends it."""
    assert parse_place(text) == place


@pytest.mark.parametrize(
    "text",
    [
        "cloudwatch:",
        "cloudwatch:arn:aws:logs:eu-west-1:1:log-group:x",
        "cloudwatch:/a*",
        "cloudwatch:/a:b*",
        "s3://",
        "s3:///key",
        "s3://Not_A_Bucket/x",
    ],
)
def test_what_no_group_or_bucket_is_called(text: str) -> None:
    """It is refused before anything is asked, with how to write it."""
    with pytest.raises(LogFolderError, match="names no") as told:
        parse_place(text)
    assert "write " in told.value.advice


def test_sources_are_called_after_their_places() -> None:
    """Files together, each group and bucket for itself; a name that was given holds for all."""
    texts = ("a.log", "cloudwatch:/ecs/ml", "s3://logs/x", "b.log", "s3://logs/y", "s3://logs/x")
    places = [parse_place(text) for text in texts]
    found = by_source(places)
    assert {name: len(ones) for name, ones in found.items()} == {
        "others": 2,
        "ecs-ml": 1,
        "logs": 2,
    }
    assert {name: len(ones) for name, ones in by_source(places, "edge").items()} == {"edge": 5}
    assert name_of("/#/") == "others"
