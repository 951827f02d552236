"""One call while it lasts: what the hooks note of it, before the writer makes lines of that.

Everything on it is a plain attribute: noting must cost nothing and cannot fail. Moments are
``time.perf_counter_ns`` (their differences are durations), the begin is UTC microseconds too.
"""

from copy import copy
from time import perf_counter_ns

from meshml_dbx.recorder.faults import Fault, fault_of


class OpenCall:
    """A call from its begin to the end of its answer's body.

    One try at a time: ``begin_next_try`` keeps what was noted of the one before in ``tries``. What
    was not noted is the class's: a call that is made sets only what is known of it by then.
    """

    number = 0
    began_us = 0
    began_ns = 0
    begin_text: bytes | None = None
    tries: "tuple[OpenCall, ...]" = ()
    attempt = 1
    bytes_in: int | None = None
    handled = 0
    """``id`` of the exception that the program was handling when it called."""
    is_returned = False
    protocol: str | None = None
    resource: int | None = None
    run_id: str | None = None
    stage: str | None = None
    thread: str | None = None
    spark: tuple[int, int, int] | None = None
    # Of the try that goes on:
    try_began_ns = 0
    sending_ns = 0
    sent_ns = 0
    answered_ns = 0
    body_ended_ns = 0
    ended_ns = 0
    code = 0
    bytes_out: int | None = None
    error: BaseException | None = None
    fault: Fault | None = None
    connect_us: int | None = None
    tls_us: int | None = None
    connection_id: int | None = None
    upstream_host: str | None = None
    local_address: str | None = None

    def __init__(self, number: int, method: str, authority: str, path: str) -> None:
        self.number = number
        self.method = method
        self.authority = authority
        self.path = path
        self.began_ns = self.try_began_ns = perf_counter_ns()

    def _forget(self) -> None:
        """Nothing is noted of the next try yet."""
        for name in _OF_A_TRY & self.__dict__.keys():
            delattr(self, name)

    def begin_next_try(self) -> None:
        """Keep what was noted of this try, and begin another of the same call."""
        self.end(None)
        self.tries = (*self.tries, copy(self))
        self._forget()
        self.try_began_ns = perf_counter_ns()

    def end(self, error: BaseException | None) -> None:
        """This try is over, now unless it was before; of an error only what may be written stays.

        An exception holds the frames that it went through, and all that is in them.
        """
        self.ended_ns = self.body_ended_ns or self.ended_ns or perf_counter_ns()
        error, self.error = error or self.error, None
        if error is not None:
            self.fault = fault_of(error, is_connected=self.sending_ns > 0, handled=self.handled)

    def note_connected(self, connect_us: int, tls_us: int | None) -> None:
        """A connection was opened for this call; what follows is sending."""
        self.connect_us, self.tls_us = connect_us, tls_us
        self.sending_ns = perf_counter_ns()

    def note_sending(self) -> None:
        """The request goes out on a connection that is ready."""
        self.sending_ns = perf_counter_ns()

    def note_sent(self) -> None:
        """The request is out; the wait for the first byte begins."""
        self.sent_ns = perf_counter_ns()

    def note_answered(self, code: int, protocol: str | None) -> None:
        """Status and headers are here; the body may follow."""
        self.answered_ns = perf_counter_ns()
        self.code = code
        self.protocol = protocol

    def note_body_ended(self, size: int | None) -> None:
        """The last byte of the answer was read, or its reader went away."""
        self.body_ended_ns = perf_counter_ns()
        self.bytes_out = size


_OF_A_TRY = frozenset(
    (
        "sending_ns",
        "sent_ns",
        "answered_ns",
        "body_ended_ns",
        "ended_ns",
        "code",
        "bytes_out",
        "error",
        "fault",
        "connect_us",
        "tls_us",
        "connection_id",
        "upstream_host",
        "local_address",
    )
)
