"""Response flags: a set, and a meaning for each."""

import pytest

from meshml_dbx.traffic.flags import FLAGS, flag_set


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (None, set()),
        ("", set()),
        ("-", set()),
        ("UF", {"UF"}),
        ("UF,URX", {"UF", "URX"}),
        ("URX, UF", {"UF", "URX"}),
        ("UF,UF", {"UF"}),
        ("UF,", {"UF"}),
    ],
)
def test_the_flags_of_a_line_are_a_set(flags: str | None, expected: set[str]) -> None:
    """Their order means nothing, and no flag is an empty text."""
    assert flag_set(flags) == expected


def test_every_flag_has_a_name_and_a_fault_of_its_own() -> None:
    """A flag without a meaning would be shown as it is, which helps nobody."""
    assert len({flag.name for flag in FLAGS.values()}) == len(FLAGS)
    assert [key for key, flag in FLAGS.items() if not (flag.name and flag.fault)] == []


@pytest.mark.parametrize(
    ("flag", "name"),
    [
        ("UF", "UpstreamConnectionFailure"),
        ("UC", "UpstreamConnectionTermination"),
        ("URX", "UpstreamRetryLimitExceeded"),
        ("UT", "UpstreamRequestTimeout"),
        ("SI", "StreamIdleTimeout"),
        ("UO", "UpstreamOverflow"),
        ("UH", "NoHealthyUpstream"),
        ("NR", "NoRouteFound"),
        ("DC", "DownstreamConnectionTermination"),
    ],
)
def test_the_flags_that_causes_lean_on_have_envoys_names(flag: str, name: str) -> None:
    """The diagnosis decides by these; a slip in the table would name a wrong cause."""
    assert FLAGS[flag].name == name
