"""Which format a file is in, also where it changes midway or holds what is no access line."""

import json
from collections import Counter

import pytest

from meshml_dbx.errors import UnknownNameError
from meshml_dbx.traffic.access_log import BadLineError
from meshml_dbx.traffic.detect_format import detect_format, read_any
from meshml_dbx.traffic.known_formats import ENVOY_DEFAULT, KNOWN, known_format
from meshml_dbx.traffic.log_format import json_format, text_format
from tests.traffic.log_samples import (
    DEFAULT_LINE,
    FLAGGED_LINE,
    ISTIO_LINE,
    ONE_OF_EACH,
    OWN_LOG_LINE,
    TCP_LINE,
    published,
    with_corpus,
)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_known_format_is_told_by_one_line(name: str) -> None:
    """The known layouts differ enough."""
    found = detect_format([ONE_OF_EACH[name]])
    assert found is not None
    assert found.name == name


@with_corpus
@pytest.mark.parametrize(
    ("sample", "name"),
    [
        ("appmesh-default", "envoy-default"),
        ("envoy-default-contour", "envoy-default"),
        ("envoy-default-datadog", "envoy-default"),
        ("envoy-default-docs", "envoy-default"),
        ("envoy-default-gateway", "envoy-default"),
        ("envoy-default-knative", "envoy-default"),
        ("envoy-default-retries", "envoy-default"),
        ("envoy-json-docs", "envoy-json"),
        ("istio-2019", "istio-2019-03"),
        ("istio-2020", "istio-2020"),
        ("istio-2020-errors", "istio-2020"),
        ("istio-default", "istio-default"),
        ("istio-tcp", "istio-2019-01"),
        ("vpc-lattice-service", "vpc-lattice"),
        ("not-access-lines", None),
        ("appmesh-custom-text", None),
        ("appmesh-custom-json", None),
    ],
)
def test_the_format_of_a_published_file_is_told(sample: str, name: str | None) -> None:
    """A format of one's own is not known unless it is given."""
    found = detect_format(published(sample))
    assert (found.name if found else None) == name


def test_lines_of_envoys_own_log_in_between_do_not_matter() -> None:
    """Both go to one stream in a container."""
    lines = [OWN_LOG_LINE, DEFAULT_LINE, OWN_LOG_LINE, "", TCP_LINE, OWN_LOG_LINE]
    assert detect_format(lines) == ENVOY_DEFAULT


def test_the_format_of_most_lines_is_the_files() -> None:
    """A redeploy changes it midway."""
    assert detect_format([ISTIO_LINE, DEFAULT_LINE, FLAGGED_LINE]) == ENVOY_DEFAULT
    assert detect_format([ISTIO_LINE, ISTIO_LINE, FLAGGED_LINE]) == known_format("istio-default")


def test_of_two_that_read_all_lines_the_one_that_fills_more_is_meant() -> None:
    """A loose format reads anything and knows nothing."""
    loose = text_format("%REQ(X-LINE)%")
    assert detect_format([DEFAULT_LINE], (loose, *KNOWN)) == ENVOY_DEFAULT
    assert detect_format(["what is this"], (*KNOWN, loose)) == loose


def test_nothing_is_read_by_no_format() -> None:
    """None is an answer."""
    assert detect_format([]) is None
    assert detect_format(["x", OWN_LOG_LINE]) is None


def test_a_declared_format_is_told_from_the_usual_keys() -> None:
    """It knows the keys that are one's own."""
    declared = json_format(
        {"method": "%REQ(:METHOD)%", "ms": "%DURATION%", "code": "%RESPONSE_CODE%"}
    )
    assert detect_format(['{"method":"GET","ms":5,"code":200}'], (*KNOWN, declared)) == declared


def test_each_line_of_a_mixed_file_is_read_by_its_own_format() -> None:
    """The file's format first, then the others; nothing is lost on the way."""
    lines = [line for line in ONE_OF_EACH.values() for _ in range(2)]
    formats = (ENVOY_DEFAULT, *KNOWN)
    read = Counter(read_any(formats, line)[0].name for line in lines)
    assert read == dict.fromkeys(ONE_OF_EACH, 2)


def test_two_json_formats_in_one_file_are_told_apart_by_their_keys() -> None:
    """A line of the new one shares keys with the old, and is not read by it."""
    old = json_format({"method": "%REQ(:METHOD)%", "ms": "%DURATION%"})
    new = json_format({"method": "%REQ(:METHOD)%", "took": "%DURATION%", "c": "%RESPONSE_CODE%"})
    line = json.dumps({"method": "GET", "took": 5, "c": 200})
    log_format, read = read_any((old, new), line)
    assert (log_format, read.values["duration_ms"]) == (new, 5)


def test_a_line_that_none_reads_is_refused_by_the_files_own_reason() -> None:
    """What the others say of it helps nobody."""
    with pytest.raises(BadLineError, match="istio-default"):
        read_any((known_format("istio-default"), ENVOY_DEFAULT), "x")
    with pytest.raises(BadLineError, match="no format"):
        read_any((), "x")


def test_a_name_that_no_format_has_is_answered_with_those_there_are() -> None:
    """Whoever mistypes one sees the right one."""
    with pytest.raises(UnknownNameError, match="envoy-defualt") as caught:
        known_format("envoy-defualt")
    assert "istio-2020" in caught.value.advice


def test_known_names_are_unique() -> None:
    """A name means one format."""
    assert len({it.name for it in KNOWN}) == len(KNOWN) == len(ONE_OF_EACH)
