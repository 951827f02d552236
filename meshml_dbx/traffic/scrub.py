"""What never reaches a table: query values, credentials, and who somebody is.

Goes in: a text out of somebody's log. Comes out: the same text with ``{removed}`` where a secret or
a person was. The rules are plain regular expressions that Python and Spark's Java read alike (their
replacements name groups as ``$1``), and stand in the order in which they are applied. They know
secrets by their form and by their name: a password that is called something else, in a place
where none belongs, passes.
"""

import re
from typing import NamedTuple

REMOVED = "{removed}"


class Rule(NamedTuple):
    """One rule: its name, as the documentation lists it, what it finds, and what it leaves."""

    name: str
    pattern: str
    replacement: str


_SAID = r"(\\?[\"']?\s{0,4}[=:]\s{0,4}\\?[\"']?)"
"""What stands between a name and its value: of a header, of JSON, of JSON within JSON, a form."""

RULES: tuple[Rule, ...] = (
    Rule(
        "authorization and cookie headers",
        rf"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie2?){_SAID}[^\"'\r\n]*",
        f"$1$2{REMOVED}",
    ),
    Rule(
        "credentials of a scheme",
        r"(?i)\b(bearer|basic|digest|negotiate|aws4-hmac-sha256)(\s{1,4}|%20|\+)[^\s\"',&]+",
        f"$1$2{REMOVED}",
    ),
    Rule("JSON web tokens", r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_.-]*", REMOVED),
    Rule(
        "keys of known makers",
        r"\b(?:(?:AKIA|ASIA)[A-Z0-9]{16}|(?:dapi|dkea|dose)[0-9a-f]{32}(?:-[0-9])?"
        r"|gh[pousr]_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|xox[abeoprs]-[A-Za-z0-9-]{10,})",
        REMOVED,
    ),
    Rule(
        "values that are called secrets",
        r"(?i)((?:token|secret|passwd|password|api_?-?key|access_?-?key|signature|credential)s?)"
        rf"{_SAID}[^\s&\"',;}}]+",
        f"$1$2{REMOVED}",
    ),
    Rule("values of a query", r"([?&][^=&?\s\"]{0,256})=[^&\s\"]*", "$1="),
    Rule("names and passwords in addresses", r"//[^/@\s\"]{1,256}@", f"//{REMOVED}@"),
    Rule(
        "e-mail addresses",
        r"(?<![A-Za-z0-9._+-])[A-Za-z0-9._+-]+(?:@|%40)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}",
        REMOVED,
    ),
)
"""For every text that a table takes out of somebody's log: paths, what has no column, excerpts."""

GUARD = (
    r"(?i)[=:@?&]|%40|eyJ|akia|asia|dapi|dkea|dose|gh[pousr]_|sk-|xox|bearer|basic|digest"
    r"|negotiate|hmac"
)
"""What a text must have for any of the rules to find something: most have nothing of it."""

ADDRESS_RULE = Rule(
    "the last part of a public address",
    r"(?<![0-9.])(?!10\.|127\.|192\.168\.|172\.(?:1[6-9]|2[0-9]|3[01])\.|169\.254\.)"
    r"([0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3})\.[0-9]{1,3}(?![0-9.])",
    "$1.0",
)
"""For ``forwarded_for``, which at a gateway says from where a person came."""

HIDDEN_NAME = (
    r"(?i)^(?:.*[^a-z])?(?:authorization|cookie2?|token|secret|passwd|password|signature"
    r"|credentials?|api_?-?key|access_?-?key)(?:[^a-z].*)?$"
)
"""Names of values that are never kept, whatever they hold."""

_COMPILED = tuple(
    (re.compile(rule.pattern), re.sub(r"\$([0-9])", r"\\\1", rule.replacement))
    for rule in (*RULES, ADDRESS_RULE)
)
_HIDDEN_NAME = re.compile(HIDDEN_NAME)


def scrub_text(text: str) -> str:
    """The text without what a secret or a person may be recognised by.

    >>> scrub_text("/v1/users/ann@corp.example?token=abc&page=2")
    '/v1/users/{removed}?token=&page='
    """
    for pattern, replacement in _COMPILED[:-1]:
        text = pattern.sub(replacement, text)
    return text


def scrub_addresses(text: str) -> str:
    """The text with public IPv4 addresses cut to their network.

    >>> scrub_addresses("203.0.113.77, 10.0.12.31")
    '203.0.113.0, 10.0.12.31'
    """
    pattern, replacement = _COMPILED[-1]
    return pattern.sub(replacement, text)


def is_secret_name(name: str) -> bool:
    """Whether a value of this name is never kept.

    >>> [is_secret_name(name) for name in ("x-api-key", "set-cookie", "user_agent")]
    [True, True, False]
    """
    return _HIDDEN_NAME.match(name) is not None


def split_query(target: str) -> tuple[str, str | None]:
    """The path of a request target, and the names of its query without their values.

    >>> split_query("/v1/labels?day=2026-11-22&token=abc")
    ('/v1/labels', 'day&token')
    """
    path, mark, query = target.partition("?")
    return path, re.sub(QUERY_VALUE, "", query) if mark else None


QUERY_VALUE = r"=[^&]*"
