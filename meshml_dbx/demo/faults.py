"""The faults that the demo can make, where each is made, and the answer that must come out.

Faults are made in the services or in the mesh, never in the logs.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault: the node it is made at, how, and what ``why`` must say of it."""

    about: str
    node: str = ""
    service_fault: str = ""
    features_caller: str = ""
    cause: str = "none"
    virtual_service: str = ""


FAULTS: dict[str, Fault] = {
    "slow-route": Fault(
        about="the second version of the label API answers late",
        node="labels-v2",
        service_fault="slow",
        cause="slow_upstream",
        virtual_service="labels.ml.local",
    ),
    "retry-storm": Fault(
        about="the feature look-up sheds load, and the route tries again and again",
        node="features-v1",
        service_fault="overloaded",
        cause="retry_storm",
        virtual_service="features.ml.local",
    ),
    "stuck-call": Fault(
        about="the scoring endpoint leaves one caller waiting",
        node="scoring-v1",
        service_fault="stuck",
        cause="stuck_call",
        virtual_service="scoring.ml.local",
    ),
    "refused-identity": Fault(
        about="the feature look-up's mesh configuration no longer lists the training client",
        node="features-v1",
        features_caller="feature-admin",
        cause="refused_identity",
        virtual_service="features.ml.local",
    ),
    "none": Fault(about="nothing is wrong"),
}
DEFAULT_FAULT = "slow-route"
HEALTHY_CALLER = "churn-training"
