"""What ``check`` says of real definitions: every finding is one that can be defended in words."""

from collections import Counter

import pytest

from meshml_dbx.dialects import import_files
from tests.dialects.importing import with_corpora
from tests.dialects.test_corpora import GROUPS, Group

OF_ANY = {
    "plaintext": "nearly all examples listen without TLS, and whoever reaches the port is served",
    "unresolved-parameter": "templates are imported without their parameters here",
    "acm-unfetchable": "the certificates are ACM's, and App Mesh that fetched them is gone",
    "low-port": "gateways on port 80, which a proxy that is not root cannot open by default",
}
EXPECTED = {
    "01-http-headers": {
        "unreachable-route": 4,  # a catch-all at priority 300, before routes of 900 to 1000
    },
    "10-http2": {
        "unused-node": 2,  # routes to blue and green are alternatives, given one after another
    },
    "12-cross-account": {
        "unused-node": 1,  # the second account's node waits for its route
    },
    "14-crossvpc-tls": {
        "unused-service": 1,  # the front is called from outside the mesh, past its service
    },
    "17-mtls-file": {
        "client-refused": 1,  # the walkthrough's own step on which calls fail
    },
    "20-k8s-policies/outlier-detection": {
        "unused-service": 1,  # the front's service, which no node lists
    },
    "20-k8s-policies/timeout-policy": {
        "unused-service": 1,  # as above
        "same-instances": 1,  # red and blue choose all of colorapp: only the controller could tell
    },
    "22-k8s-cloudmap": {
        "unused-service": 1,  # as above
    },
    "23-migration-pair": {
        "unused-node": 1,  # the canary, before it gets a weight
    },
}


@with_corpora
@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.paths)
def test_no_finding_of_a_real_definition_is_a_false_alarm(group: Group) -> None:
    """What is found beyond the reasons above is either a new fault of ours or a reason to add."""
    found = import_files(group.sources(), group.wanted())
    counts = Counter(one.code for one in found.checked if one.code not in OF_ANY)
    assert dict(counts) == EXPECTED.get(group.paths, {})


@with_corpora
def test_each_check_of_a_real_definition_names_its_own_file() -> None:
    """A person mends what they have: file, line and path are the original's."""
    group = next(one for one in GROUPS if one.paths == "01-http-headers")
    found = import_files(group.sources(), group.wanted())
    hidden = [one.where for one in found.checked if one.code == "unreachable-route"]
    assert hidden[0] == "01-http-headers/app.yaml:110 Resources.ColorRouteBlue"
