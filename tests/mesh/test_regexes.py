"""Regular expressions as Envoy's RE2 reads them: what they take, what is refused, how fast."""

import time

import pytest

from meshml_dbx.mesh.regexes import RegexError, compile_regex


@pytest.mark.parametrize(
    ("expression", "taken", "left"),
    [
        ("a|ab", ["a", "ab"], ["", "abc", "A"]),
        ("^/v[12](/.*)?$", ["/v1", "/v2/x"], ["/v3", "/v1x"]),
        (r"\d+", ["1", "42"], ["", "٣", "1a"]),
        (r"\w\s\W", ["a -"], ["é -", "a--"]),
        (r"a\bb|a\b-", ["a-"], ["ab"]),
        ("(?i)k(?-i)k", ["Kk", "kk"], ["kK", "\u212ak"]),
        ("[^a-c]", ["d", "-", "\n"], ["a", "", "dd"]),
        ("[]a-]+", ["]", "a-]"], ["b"]),
        ("[[:alpha:]][[:^digit:]]", ["a-"], ["1-", "a1"]),
        ("a{2}b{1,2}c{0,}", ["aab", "aabbcc"], ["ab", "aabbb"]),
        ("a{,2}", ["a{,2}"], ["aa"]),
        (r"\Qa.b*\E+", ["a.b*", "a.b**"], ["axb*"]),
        (r"\x41\x{42}\103", ["ABC"], ["abc"]),
        ("(?s).", ["\n"], [""]),
        (".", ["a"], ["\n", "é"]),
        ("..", ["é"], ["a"]),
        (r"\pL+", ["aB"], ["1"]),
        ("(?P<name>a)(?<other>b)(?:c)", ["abc"], ["ab"]),
        ("", [""], ["a"]),
    ],
)
def test_the_whole_value_is_met_as_re2_meets_it(
    expression: str, taken: list[str], left: list[str]
) -> None:
    """Classes are ASCII's, $ is the very end, and one character is one byte of UTF-8."""
    regex = compile_regex(expression)
    met = {value: regex.meets(value) for value in [*taken, *left]}
    assert met == {**dict.fromkeys(taken, True), **dict.fromkeys(left, False)}


@pytest.mark.parametrize(
    "expression",
    [
        "(",
        ")",
        "[",
        "[b-a]",
        "*a",
        "a**",
        "a++",
        "a{1001}",
        "a{2,1}",
        "(a{100}){11}",
        "{2}",
        r"\1",
        r"\Z",
        r"\e",
        "\\",
        r"\x{100}",
        "(?=a)",
        "(?<!a)b",
        "(?P=n)",
        "(?P<a>x)(?P<a>y)",
        "[[:word",
        "[[:foo:]]",
    ],
)
def test_what_re2_refuses_is_refused(expression: str) -> None:
    """Envoy would not take a configuration with it."""
    with pytest.raises(RegexError):
        compile_regex(expression)


@pytest.mark.parametrize("expression", ["(a+)+b", "(a|a)*b", "(a*)*b", "(.*)(.*)(.*)(.*)b"])
def test_no_value_makes_an_expression_slow(expression: str) -> None:
    """A library that tries again and again would need longer than the universe has been there."""
    began = time.monotonic()
    assert not compile_regex(expression).meets("a" * 20_000)
    assert time.monotonic() - began < 2


def test_many_different_values_do_not_fill_the_memory() -> None:
    """States that were made for other values are dropped, and answers stay right."""
    regex = compile_regex("(?:[a-z]{0,40}x[a-z]{20})*")
    values = [f"{'abcdefgh'[number % 8] * (number % 37)}x{'y' * 20}" for number in range(600)]
    assert all(regex.meets(value) for value in values)
    assert not regex.meets("x")
