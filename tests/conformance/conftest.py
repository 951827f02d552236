"""The subjects of the suite: each test runs against every one of them."""

import pytest

from tests.conformance.envoy_subject import EnvoySubject
from tests.conformance.subject import Subject

SUBJECTS = [pytest.param(EnvoySubject(), id="envoy", marks=pytest.mark.envoy)]


@pytest.fixture(scope="session", params=SUBJECTS)
def subject(request: pytest.FixtureRequest) -> Subject:
    """What carries the calls."""
    made: Subject = request.param
    return made
