"""What Envoy's response flags mean: one table, flag → long name and fault class.

A line's flags are a set in no stable order, ``-`` when there is none. Source: Envoy 1.40,
"Access logging", RESPONSE_FLAGS.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One response flag: Envoy's long name, and what kind of trouble it tells of."""

    name: str
    fault: str


FLAGS: dict[str, Flag] = {
    "UH": Flag(name="NoHealthyUpstream", fault="no healthy upstream"),
    "UF": Flag(name="UpstreamConnectionFailure", fault="connect or TLS failure"),
    "UO": Flag(name="UpstreamOverflow", fault="pool overflow"),
    "NR": Flag(name="NoRouteFound", fault="no route"),
    "URX": Flag(name="UpstreamRetryLimitExceeded", fault="retries exhausted"),
    "NC": Flag(name="NoClusterFound", fault="no cluster"),
    "DT": Flag(name="DurationTimeout", fault="time-out"),
    "DC": Flag(name="DownstreamConnectionTermination", fault="caller gone"),
    "DR": Flag(name="DownstreamRemoteReset", fault="caller gone"),
    "LH": Flag(name="FailedLocalHealthCheck", fault="unhealthy"),
    "UT": Flag(name="UpstreamRequestTimeout", fault="time-out"),
    "LR": Flag(name="LocalReset", fault="reset"),
    "UR": Flag(name="UpstreamRemoteReset", fault="reset"),
    "UC": Flag(name="UpstreamConnectionTermination", fault="upstream closed"),
    "DI": Flag(name="DelayInjected", fault="injected"),
    "FI": Flag(name="FaultInjected", fault="injected"),
    "RL": Flag(name="RateLimited", fault="policy"),
    "UAEX": Flag(name="UnauthorizedExternalService", fault="policy"),
    "RLSE": Flag(name="RateLimitServiceError", fault="policy"),
    "IH": Flag(name="InvalidEnvoyRequestHeaders", fault="policy"),
    "SI": Flag(name="StreamIdleTimeout", fault="time-out"),
    "DPE": Flag(name="DownstreamProtocolError", fault="protocol"),
    "UPE": Flag(name="UpstreamProtocolError", fault="protocol"),
    "UMSDR": Flag(name="UpstreamMaxStreamDurationReached", fault="time-out"),
    "NFCF": Flag(name="NoFilterConfigFound", fault="configuration"),
    "OM": Flag(name="OverloadManagerTerminated", fault="overload"),
    "DF": Flag(name="DnsResolutionFailed", fault="name not resolved"),
    "DO": Flag(name="DropOverload", fault="overload"),
    "UDO": Flag(name="UnconditionalDropOverload", fault="overload"),
}


def flag_set(flags: str | None) -> frozenset[str]:
    """The flags of a line as a set.

    >>> sorted(flag_set("URX,UF"))
    ['UF', 'URX']
    >>> flag_set("-")
    frozenset()
    """
    if not flags or flags == "-":
        return frozenset()
    return frozenset(filter(None, (flag.strip() for flag in flags.split(","))))
