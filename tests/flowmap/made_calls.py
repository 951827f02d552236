"""Calls made by hand for the tests of the route picture."""

from meshml_dbx.traffic.call import Call
from meshml_dbx.traffic.evidence import CallColumns

LABELS = ("labels.ml.local", "by-day", "labels-v2")


def call(  # the fields that these tests vary
    *,
    virtual_service: str | None = "labels.ml.local",
    route: str | None = "by-day",
    target: str | None = "labels-v2",
    client: str | None = "churn-training",
    authority: str | None = None,
    ms: int = 10,
    code: int | None = 200,
    flags: str | None = None,
    attempts: int = 1,
) -> Call:
    """One finished call."""
    return Call(
        type="DownstreamEnd",
        start_time=0,
        observer="egress",
        sidecar_id="churn-training-1",
        client=client,
        authority=authority,
        virtual_service=virtual_service,
        route=route,
        target=target,
        total_us=ms * 1000,
        code=code,
        flags=flags,
        attempts=attempts,
    )


def thirty_services() -> CallColumns:
    """Calls to thirty services with long names, of which every third shares one target."""
    return CallColumns.of(
        call(
            virtual_service=f"a-service-with-a-very-long-name-{number:02}.production.ml.local",
            route="by-day-and-then-by-customer-and-region",
            target=f"backend-{number}-v2" if number % 3 else "shared-backend",
        )
        for number in range(30)
        for _ in range(number + 1)
    )
