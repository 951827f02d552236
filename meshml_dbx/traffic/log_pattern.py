"""One regular expression for a text log format, the same to Python and to Spark's Java.

Envoy escapes nothing in text lines: a user agent may hold quotes and blanks, a path blanks. So
most values are bounded: they end where the next literal text begins. A few are free and hold
anything, each told apart by what stands between it and the next free one. The last is read from
the line's end; before any other stands a guard that refuses the line where that ending comes
twice, since it could be read in two ways.

No repetition holds another, and each guard looks at a character a fixed number of times, so that
even a hostile line of a megabyte is read or refused in time linear in its length. Only positional
groups, look-ahead and bounded counts are used, and no group is repeated (Java would recurse).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from meshml_dbx.traffic.log_operators import LogValue, plain_operators, split_operator
from meshml_dbx.traffic.log_time import escaped, example_time, time_form

Part = str | LogValue

LINE_END = r"(?![\s\S])"
"""Python and Java differ in what ``$`` and ``\\Z`` let pass after it."""

_NUMBER = "-?[0-9]{0,20}(?:\\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,4})?"
_WHOLE = "-?[0-9]{0,20}"
_STRICT = {
    "number": (_NUMBER, "0123456789+-.eE"),
    "flags": ("[A-Z,-]{0,60}", "ABCDEFGHIJKLMNOPQRSTUVWXYZ,-"),
    "protocol": ("(?:HTTP/[0-9.]{1,4}|-|)", "HTP/0123456789.-"),
}

_TOKENS = re.compile(
    r"REQ\(:METHOD\)|REQ\(:SCHEME\)|REQ\(:AUTHORITY\)|REQ\(HOST\)|ACCESS_LOG_TYPE|.*_ADDRESS.*"
    r"|UPSTREAM_HOST.*|UPSTREAM_CLUSTER.*|.*PROTOCOL|.*_TLS_.*|REQUESTED_SERVER_NAME|TRACE_ID"
    r"|SPAN_ID|STREAM_ID|UNIQUE_ID|HOSTNAME|.*_SERIAL|.*FINGERPRINT.*|GRPC_STATUS.*"
    r"|.*_URI_SAN|.*_DNS_SAN|RESPONSE_FLAGS_LONG"
)
"""Operators whose values hold neither blank nor quote."""

_RANKS: tuple[tuple[str, int], ...] = (
    (r"REQ\(USER-AGENT\)", 9),
    (r"LOCAL_REPLY_BODY", 8),
    (r"REQ\(REFERER\)", 7),
    (r"REQ\(:PATH\)|REQ\(X-ENVOY-ORIGINAL-PATH\)|PATH.*", 6),
    (r"(?:REQ|RESP|TRAILER)\(.*", 4),
)
"""Which value is rather free, where not all can be: what the caller can write most freely."""
_OTHER_RANK = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """What a value looks like: an expression without groups, and which characters it may hold."""

    form: str
    holds: str = ""
    holds_all_but: str | None = None
    is_strict: bool = False

    def may_hold(self, character: str) -> bool:
        if self.holds_all_but is not None:
            return character not in self.holds_all_but
        return character in self.holds


def pattern_of_parts(parts: Sequence[Part]) -> str:
    """The expression that reads a whole line; its groups are the values in their order.

    >>> from meshml_dbx.traffic.log_operators import value_of
    >>> pattern = pattern_of_parts([value_of("PROTOCOL"), " ", value_of("PATH")])
    >>> re.match(pattern, "HTTP/2 /").groups()
    ('HTTP/2', '/')
    """
    layout = _Layout(parts)
    free = _choose_free(layout)
    pattern = _assemble(layout, free)
    line = _example_line(parts)
    # What stands between two free values may be there once more by the format itself.
    while len(free) > 1 and not re.match(pattern, line):
        free = tuple(it for it in free if it != min(free, key=layout.rank))
        pattern = _assemble(layout, free)
    return pattern


class _Layout:
    """The values of a format and the literal texts before, between and after them."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.values: list[LogValue] = []
        self.literals = [""]
        for part in parts:
            if isinstance(part, str):
                self.literals[-1] += part
            else:
                self.values.append(part)
                self.literals.append("")

    def rank(self, index: int) -> float:
        """How freely a caller can write this value; higher where it stands without quotes."""
        plains = tuple(plain_operators(self.values[index].operator))
        ranks = (r for form, r in _RANKS if any(re.fullmatch(form, plain) for plain in plains))
        return max(ranks, default=_OTHER_RANK) + (0 if self.is_quoted(index) else 0.5)

    def is_quoted(self, index: int) -> bool:
        return self.literals[index + 1].startswith('"')

    def may_be_free(self, index: int) -> bool:
        """What only the proxy writes holds no quote; in quotes it is bounded by them."""
        is_text = self.shape(index, None).holds_all_but is not None and not _is_token(
            self.values[index]
        )
        return is_text and (not self.is_quoted(index) or self.rank(index) > _OTHER_RANK)

    def shape(self, index: int, start: str | None) -> _Shape:
        """How a bounded value looks; ``start`` begins the text after the last free value."""
        value, after = self.values[index], self.literals[index + 1][:1]
        if (strict := _strict_shape(value, after)) is not None:
            return strict
        if _is_token(value):
            return _all_but(' "' + after)
        if not after:
            return _all_but((start or "") + (self.literals[index][:1] if start else ""))
        return _all_but(after + (start if start == '"' else ""))

    def between(self, index: int, stop: int, start: str) -> tuple[str, str, bool]:
        """What stands between two free values: the whole, its head, and whether that is telling.

        The head ends before the first value that may hold its first character ``start``, so that
        looking for it costs no more than the line is long.
        """
        whole = head = ""
        in_head, is_telling = True, False
        for it in range(index, stop):
            literal = self.literals[it + 1]
            whole += escaped(literal)
            if in_head:
                head += escaped(literal)
                is_telling = is_telling or any(map(str.isalnum, literal))
            if it + 1 < stop and it + 1 < len(self.values):
                shape = self.shape(it + 1, start if stop == len(self.values) else None)
                in_head = in_head and not shape.may_hold(start)
                whole += shape.form
                head += shape.form if in_head else ""
                is_telling = is_telling or (in_head and shape.is_strict)
        return whole, head, is_telling


def _all_but(characters: str) -> _Shape:
    excluded = "".join(dict.fromkeys(characters + "\n"))
    in_class = "".join("\\" + c if c in "\\]^-[&" else c for c in excluded).replace("\n", "\\n")
    return _Shape(form=f"[^{in_class}]*", holds_all_but=excluded)


def _is_token(value: LogValue) -> bool:
    return any(_TOKENS.fullmatch(plain) for plain in plain_operators(value.operator))


def _strict_shape(value: LogValue, after: str) -> _Shape | None:
    if value.column == "start_time":
        return _time_shape(value)
    kind = "protocol" if value.operator == "PROTOCOL" else value.kind
    if split_operator(value.operator)[0] == "RESPONSE_FLAGS_LONG":
        return None
    if kind not in _STRICT:
        return None
    form, holds = _STRICT[kind]
    if kind == "number" and after.isdigit():
        return _all_but(after)
    if kind == "number" and after and after in ".eE":
        form = _WHOLE
    return _Shape(form=form, holds=holds, is_strict=True)


def _time_shape(value: LogValue) -> _Shape:
    form = time_form(value.time_format) or ""  # a column is only filled by a readable one
    letters = "abcdefghijklmnopqrstuvwxyz"
    holds = letters + letters.upper() + "0123456789+-:." + value.time_format
    return _Shape(form=form, holds=holds, is_strict=True)


def _choose_free(layout: _Layout) -> tuple[int, ...]:
    """The values that may hold anything: the likeliest first, as long as all are told apart."""
    likely = [it for it in range(len(layout.values)) if layout.may_be_free(it)]
    free: tuple[int, ...] = ()
    for index in sorted(likely, key=lambda it: (-layout.rank(it), it)):
        trial = tuple(sorted((*free, index)))
        if all(_is_told_apart(layout, trial, at) for at in range(len(trial))):
            free = trial
    return free


def _is_told_apart(layout: _Layout, free: tuple[int, ...], at: int) -> bool:
    index, stop = free[at], _stop(layout, free, at)
    start = layout.literals[index + 1][:1]
    whole, head, is_telling = layout.between(index, stop, start)
    return is_telling or (whole == head and stop == len(layout.values))


def _stop(layout: _Layout, free: tuple[int, ...], at: int) -> int:
    return free[at + 1] if at + 1 < len(free) else len(layout.values)


def _assemble(layout: _Layout, free: tuple[int, ...]) -> str:
    last = free[-1] if free else len(layout.values)
    start = layout.literals[last + 1][:1] if free else None
    pieces = ["^", escaped(layout.literals[0])]
    for index in range(len(layout.values)):
        if index in free:
            pieces.append(_free_group(layout, free, free.index(index)))
        else:
            pieces.append(f"({layout.shape(index, start if index > last else None).form})")
        pieces.append(escaped(layout.literals[index + 1]))
    return "".join(pieces) + LINE_END


def _free_group(layout: _Layout, free: tuple[int, ...], at: int) -> str:
    """The group of a free value, behind its guard where it needs one."""
    index, stop = free[at], _stop(layout, free, at)
    start = layout.literals[index + 1][:1]
    whole, head, _ = layout.between(index, stop, start)
    if stop == len(layout.values) and whole == head:
        return r"([^\n]*)"
    first, rest = escaped(start), head[len(escaped(start)) :]
    # The second may begin within the first, hence the look-ahead.
    return rf"(?![^\n]*{first}(?={rest})[^\n]*{first}{rest})([^\n]*?)"


_EXAMPLES = {"number": "0", "flags": "UF"}


def _example_line(parts: Sequence[Part]) -> str:
    return "".join(part if isinstance(part, str) else _example(part) for part in parts)


def _example(value: LogValue) -> str:
    if value.kind == "time":
        return example_time(value.time_format)
    return "HTTP/2" if value.operator == "PROTOCOL" else _EXAMPLES.get(value.kind, "a")
