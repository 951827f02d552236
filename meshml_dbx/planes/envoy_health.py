"""Which endpoints of a node are called: those that answer its health check and do not keep failing.

Goes in: what a node's listener declares. Comes out: the same for the cluster of each of its
callers, since callers are who ask and who leave out.
"""

from meshml_dbx.mesh.spec import HealthCheck, Listener, OutlierDetection
from meshml_dbx.planes.envoy_terms import Body, Wiring, duration, extension

# Nobody left means 503 at once, neither calls to the ill nor a second's delay.
_NO_PANIC: Body = {"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0s"}


def health(listener: Listener, host: str, wiring: Wiring) -> Body:
    """The health checks and the outlier detection of a listener's endpoints."""
    found: Body = {}
    if listener.outlier_detection:
        found["outlier_detection"] = _outliers(listener.outlier_detection)
    if listener.health_check:
        found["health_checks"] = [_check(listener.health_check, host, wiring.health_log)]
    return found | ({"common_lb_config": _NO_PANIC} if found else {})


def _outliers(outlier: OutlierDetection) -> Body:
    """When an endpoint is left out for a while; App Mesh may always leave out one."""
    return {
        "consecutive_5xx": outlier.max_server_errors,
        "interval": duration(outlier.interval.seconds),
        "base_ejection_time": duration(outlier.base_ejection_duration.seconds),
        "max_ejection_percent": outlier.max_ejection_percent,
        "always_eject_one_host": True,
        "enforcing_success_rate": 0,
    }


def _check(check: HealthCheck, host: str, log: str) -> Body:
    interval = duration(check.interval_millis / 1000)
    return {
        "interval": interval,
        "no_traffic_interval": interval,  # else Envoy asks once a minute until the first call
        "timeout": duration(check.timeout_millis / 1000),
        "healthy_threshold": check.healthy_threshold,
        "unhealthy_threshold": check.unhealthy_threshold,
        "event_logger": [
            extension(
                "health_check.event_sinks.file",
                "extensions.health_check.event_sinks.file.v3.HealthCheckEventFileSink",
                event_log_path=log,
            )
        ],
        **_question(check, host),
    }


def _question(check: HealthCheck, host: str) -> Body:
    if check.protocol == "tcp":
        # A connection that is kept would take one of the program's own, for good.
        return {"tcp_health_check": {}, "reuse_connection": False}
    if check.protocol == "grpc":
        return {"grpc_health_check": {"authority": host}}
    version = "HTTP2" if check.protocol == "http2" else "HTTP1"
    asked: Body = {"path": check.path or "/", "host": host, "codec_client_type": version}
    return {"http_health_check": asked}
