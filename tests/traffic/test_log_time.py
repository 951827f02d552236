"""The moments of foreign access logs, in Envoy's own form and in any that strftime can ask for."""

import pytest

from meshml_dbx.traffic.log_time import DIRECTIVES, example_time, has_zone, read_moment, time_form

MICROS = 1_772_615_702_000_000


@pytest.mark.parametrize(
    ("text", "form", "micros"),
    [
        ("2026-03-04T09:15:02Z", "", MICROS),
        ("2026-03-04T09:15:02.114Z", "", MICROS + 114_000),
        ("2026-03-04T09:15:02.114321Z", "", MICROS + 114_321),
        ("2026-03-04T09:15:02.114321987Z", "", MICROS + 114_321),
        ("2026-03-04T10:15:02.1+01:00", "", MICROS + 100_000),
        ("2026-03-04T03:45:02-0530", "", MICROS),
        ("1772615702", "%s", MICROS),
        ("1772615702.114", "%s.%3f", MICROS + 114_000),
        ("1772615702114", "%s%3f", MICROS + 114_000),
        ("-1", "%s", -1_000_000),
        ("2026/03/04 09:15:02", "%Y/%m/%d %H:%M:%S", MICROS),
        ("2026-03-04T09:15:02.114321", "%Y-%m-%dT%H:%M:%S.%6f", MICROS + 114_321),
        ("04/Mar/2026:10:15:02 +0100", "%d/%b/%Y:%H:%M:%S %z", MICROS),
        ("Wed,  4 March 26 09:15:02 AM GMT", "%a, %e %B %y %I:%M:%S %p %Z", MICROS),
        ("2026-03-04 09:15:02%T", "%F %T%%T", MICROS),
        ("03/04/26 21:15", "%D %R", MICROS + 12 * 3_600_000_000 - 2_000_000),
        ("12:15 AM 1970-01-01", "%I:%M %p %F", 15 * 60_000_000),
        ("99-01-01 00:00", "%y-%m-%d %H:%M", 915_148_800_000_000),
    ],
)
def test_a_moment_is_read_to_the_microsecond(text: str, form: str, micros: int) -> None:
    """Whole seconds, parts of one, zones and clocks of twelve hours: it is UTC afterwards."""
    assert read_moment(text, form) == micros


@pytest.mark.parametrize(
    ("text", "form"),
    [
        *(("", ""), ("-", ""), ("2026-03-04", ""), ("2026-03-04T09:15:02", "")),
        *(("2026-13-04T09:15:02Z", ""), ("2026-03-04T09:15:61Z", ""), ("2026-03-04 09:15:02Z", "")),
        *(("2026-03-04T09:15:02+25:00", ""), ("2026-03-04T09:15:02Z ", ""), ("1e9", "%s")),
        *(("04/Foo/2026 09:15", "%d/%b/%Y %H:%M"), ("13:00 PM 2026-01-01", "%I:%M %p %F")),
        ("٢٠٢٦-03-04T09:15:02Z", ""),
        ("0001-01-01T00:00:00+23:59", "%Y-%m-%dT%H:%M:%S"),
    ],
)
def test_what_is_no_moment_of_the_form_is_refused(text: str, form: str) -> None:
    """Half a date, a thirteenth month and the digits of other scripts."""
    with pytest.raises(ValueError, match=r"."):
        read_moment(text, form)


@pytest.mark.parametrize(
    "form", ["%H:%M:%S", "%Y-%m-%d", "%Q %s", "%s %s", "%", "%Y-%j %H:%M", "x"]
)
def test_a_form_that_names_no_one_moment_is_not_readable(form: str) -> None:
    """Its text is then kept as it is."""
    assert time_form(form) is None


@pytest.mark.parametrize(
    "form", ["", "%s.%3f", "%d/%b/%Y:%H:%M:%S %z", "%a %A %e %B %y %I:%M %p %Z"]
)
def test_the_example_of_a_form_is_of_that_form(form: str) -> None:
    """A format is tried on it."""
    assert read_moment(example_time(form), form) // 86_400_000_000 == MICROS // 86_400_000_000


def test_every_directive_has_an_example_of_itself() -> None:
    """The table agrees with itself."""
    for directive in DIRECTIVES:
        form = f"%{directive}" if directive == "s" else f"%s|%{directive}"
        assert read_moment(example_time(form), form) // 1_000_000 == 1_772_615_702


@pytest.mark.parametrize(
    ("form", "expected"), [("", True), ("%s", True), ("%F %T %z", True), ("%F %T", False)]
)
def test_a_local_time_must_say_its_zone(form: str, *, expected: bool) -> None:
    """Else nobody knows when it was."""
    assert has_zone(form) is expected
