"""Text that fits: bounded in width, honest about what was left out."""

import pytest

from meshml_dbx.flowmap.fit import clean, shorten, width_of, wrap


@pytest.mark.parametrize("text", ["labels", "W" * 80, "标签" * 40, "a.b-c_d " * 20, "ﷺ" * 9])
@pytest.mark.parametrize("width", [20.0, 100.0, 400.0])
def test_wrapped_lines_are_no_wider_than_asked(text: str, width: float) -> None:
    """Each line fits, and there are never more lines than asked for."""
    lines = wrap(text, size=12, width=width, lines=2)
    assert len(lines) <= 2
    assert all(width_of(line, 12) <= width for line in lines)


def test_a_text_that_fits_is_left_alone() -> None:
    """Nothing is shortened that has room."""
    assert wrap("labels.ml.local", size=12, width=200) == ("labels.ml.local",)


def test_a_shortened_text_keeps_both_ends() -> None:
    """Names differ at either end, so the middle goes."""
    short = shorten("feature-lookup.production.ml.local", size=10, width=120)
    assert (short[:7], short[-5:], "…" in short) == ("feature", "local", True)


def test_what_xml_forbids_is_replaced() -> None:
    """Control characters and lone surrogates become replacement marks; others stay."""
    assert clean("a\x00\x1b\ud800é\U0001f600") == "a\ufffd\ufffd\ufffdé\U0001f600"
