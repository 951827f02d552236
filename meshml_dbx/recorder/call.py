"""One call while it lasts: what the hooks note of it, before the writer makes lines of that.

Everything on it is a plain attribute: noting must cost nothing and cannot fail. Moments are
``time.perf_counter_ns`` (their differences are durations), the begin is UTC microseconds too.
"""

from copy import copy
from time import perf_counter_ns

from meshml_dbx.recorder.faults import Fault, fault_of


class OpenCall:
    """A call from its begin to the end of its answer's body.

    One try at a time: ``begin_next_try`` keeps what was noted of the one before in ``tries``.
    ``begin_text`` is what all its lines say of its begin, once the writer has made one.
    """

    __slots__ = (
        "answered_ns",
        "attempt",
        "authority",
        "began_ns",
        "began_us",
        "begin_text",
        "body_ended_ns",
        "bytes_in",
        "bytes_out",
        "code",
        "connect_us",
        "connection_id",
        "ended_ns",
        "error",
        "fault",
        "handled",
        "host",
        "is_returned",
        "local_address",
        "method",
        "number",
        "path",
        "protocol",
        "resource",
        "run_id",
        "sending_ns",
        "sent_ns",
        "spark",
        "stage",
        "thread",
        "tls_us",
        "tries",
        "try_began_ns",
        "upstream_host",
    )

    def __init__(self, number: int, method: str, authority: str, path: str) -> None:
        self.number = number
        self.method = method
        self.authority = authority
        self.path = path
        self.began_us = 0
        self.begin_text: bytes | None = None
        self.began_ns = self.try_began_ns = perf_counter_ns()
        self.tries: list[OpenCall] = []
        self.attempt = 1
        self.bytes_in: int | None = None
        self.handled = 0
        """``id`` of the exception that the program was handling when it called."""
        self.is_returned = False
        self.protocol: str | None = None
        self.resource: int | None = None
        self.run_id: str | None = None
        self.stage: str | None = None
        self.thread: str | None = None
        self.spark: tuple[int, int, int] | None = None
        self._forget()

    def _forget(self) -> None:
        self.sending_ns = self.sent_ns = self.answered_ns = self.body_ended_ns = 0
        self.code = 0
        self.bytes_out: int | None = None
        self.error: BaseException | None = None
        self.fault: Fault | None = None
        self.ended_ns = 0
        self.connect_us: int | None = None
        self.tls_us: int | None = None
        self.connection_id: int | None = None
        self.upstream_host: str | None = None
        self.local_address: str | None = None

    def begin_next_try(self) -> None:
        """Keep what was noted of this try, and begin another of the same call."""
        self.end(None)
        self.tries.append(copy(self))
        self.try_began_ns = perf_counter_ns()
        self._forget()

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
