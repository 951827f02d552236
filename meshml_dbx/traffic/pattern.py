"""Which endpoint a call speaks to: method and path with the changing parts taken out.

Goes in: method and path. Comes out: ``GET /v1/labels/{}``. The rules are plain regular
expressions that Python and Spark's Java read alike, so that the log folder and the lake agree.
"""

import re

MAX_SEGMENTS = 8

RULES: tuple[tuple[str, str], ...] = (
    # A segment with a digit is an identifier, unless it is a version such as v1 or v2.1. So is
    # one with anything but a name's characters, or longer than names are.
    (
        r"/(?:(?!v[0-9]+(?:\.[0-9]+)*(?:/|$))[^/]*[0-9][^/]*"
        r"|[^/]*[^A-Za-z0-9._~{}/-][^/]*"
        r"|[^/]{33,})",
        "/{}",
    ),
    # Deep paths end in one mark, whatever follows.
    (r"^((?:/[^/]*){8})/.*$", "$1/{}"),
)

_COMPILED = tuple(
    (re.compile(rule), replacement.replace("$1", r"\1")) for rule, replacement in RULES
)


def path_template(path: str) -> str:
    """The path with identifiers replaced by ``{}``.

    >>> path_template("/v1/labels/2026-11-23")
    '/v1/labels/{}'
    """
    for rule, replacement in _COMPILED:
        path = rule.sub(replacement, path)
    return path


def pattern_of(method: str | None, path: str | None) -> str:
    """Method and path template of a call.

    >>> pattern_of("GET", "/v1/records/17")
    'GET /v1/records/{}'
    """
    return f"{method or '-'} {path_template(path or '-')}"
