"""What the suite promises to other transports: nothing that they cannot do fails, or is silent."""

import pytest

from tests.conformance.envoy_subject import EnvoySubject
from tests.conformance.subject import Ability, need


class Proxyless(EnvoySubject):
    """A subject that calls by http alone."""

    name = "proxyless"
    abilities: frozenset[Ability] = frozenset({"http"})


def test_what_a_subject_cannot_do_is_skipped_by_its_name() -> None:
    """The report of a run names the subject and the ability that it lacks."""
    need(Proxyless(), "http")
    with pytest.raises(pytest.skip.Exception, match="proxyless has not the ability gateway"):
        need(Proxyless(), "http", "gateway")
