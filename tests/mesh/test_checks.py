"""Rules that look at two places at once: each broken rule is one finding on its line."""

import pytest

from meshml_dbx.errors import MeshInvalidError
from meshml_dbx.findings import CODES, Severity
from meshml_dbx.mesh.checks import check_mesh, require_mesh
from meshml_dbx.mesh.load import load_mesh, read_mesh
from tests.mesh.ml_example import EVERY_FIELD, EXAMPLE, changed, line_with

POLICY = """\
      backendDefaults:
        clientPolicy:
          tls:
            enforce: true
            certificate: {sds: {secretName: churn-training}}
            validation:
              trust: {sds: {secretName: ml}}
"""
V1_TLS = """\
          tls:
            mode: STRICT
            certificate: {sds: {secretName: labels-v1}}
            validation:
              trust: {sds: {secretName: ml}}
              subjectAlternativeNames: {match: {exact: ["spiffe://ml/churn-training"]}}
"""


def findings_of(text: str) -> list[tuple[str, str, str]]:
    """Code, place (file and line) and words of every finding."""
    found = check_mesh(load_mesh(text, source="mesh.yml"))
    return [(one.code, one.where.split()[0], one.what) for one in found]


def with_route(match: str, *, rank: str = "", headers: str = "") -> str:
    """The example with a second route, ``other``, whose match is given."""
    route = f"""\
      - routeName: other
        spec:
          {rank}
          httpRoute:
            match: {{{match}{headers}}}
            action: {{weightedTargets: [{{virtualNode: labels-v1, weight: 1}}]}}
"""
    return changed("\nvirtualServices:", f"{route}\nvirtualServices:")


def test_the_example_breaks_no_rule() -> None:
    """A right mesh has no finding at all, not even a warning."""
    assert check_mesh(read_mesh(EXAMPLE)) == ()


def test_a_mesh_of_every_field_can_be_started() -> None:
    """What is unwise together is no error."""
    found = {str(one.severity) for one in check_mesh(read_mesh(EVERY_FIELD))}
    assert found == {"warning", "info"}


def assert_one(text: str, code: str, at: str, words: str, *, occurrence: int = 1) -> None:
    """The text has this one finding, on the line that holds ``at``."""
    ((found_code, where, what),) = findings_of(text)
    assert (found_code, where) == (code, f"mesh.yml:{line_with(text, at, occurrence=occurrence)}")
    assert words in what


# --- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "virtualServiceName: labels.ml.local}}]",
            "virtualServiceName: label.ml.local}}]",
            "there is no virtual service label.ml.local; did you mean labels.ml.local?",
        ),
        (
            "virtualRouterName: labels}}}",
            "virtualRouterName: lables}}}",
            "there is no virtual router lables; did you mean labels?",
        ),
        (
            "{virtualRouter: {virtualRouterName: labels}}",
            "{virtualNode: {virtualNodeName: x}}",
            "there is no virtual node x",
        ),
        (
            "virtualNode: labels-v2",
            "virtualNode: label-v2",
            "there is no virtual node label-v2; did you mean labels-v2?",
        ),
        (
            "weight: 30",
            "weight: 30, port: 80",
            "labels-v2 does not listen on 80, but on 18082",
        ),
        (
            "trust: {sds: {secretName: ml}}",
            "trust: {sds: {secretName: lm}}",
            "there is no authority lm: in trust, sds names the mesh, ml",
        ),
    ],
    ids=["backend", "router", "node", "target", "port", "authority"],
)
def test_a_reference_to_nothing_is_found(old: str, new: str, words: str) -> None:
    """Every name that is used must be declared; the closest that is gets named."""
    assert_one(changed(old, new), "dangling-reference", new, words)


def test_two_entries_of_one_kind_with_one_name_are_found() -> None:
    """The second of the two is named, and it alone."""
    router = "  - virtualRouterName: labels\n    spec: {}\n"
    text = changed("virtualServices:", f"{router}virtualServices:")
    words = "a second virtual router is named labels"
    assert_one(text, "duplicate-name", "- virtualRouterName", words, occurrence=2)


def test_services_that_differ_only_in_case_are_one_authority() -> None:
    """Host names have no case, and Envoy refuses the same domain twice."""
    text = changed(
        "\nvirtualServices:\n", "\nvirtualServices:\n  - virtualServiceName: LABELS.ml.local\n"
    )
    found = [it for it in findings_of(text) if it[0] == "duplicate-name"]
    line = line_with(text, "- virtualServiceName: labels.ml.local")
    assert found == [
        ("duplicate-name", f"mesh.yml:{line}", "a second virtual service is named labels.ml.local")
    ]


def test_two_routes_of_one_router_with_one_name_are_found() -> None:
    """A route's name is what the logs call it."""
    text = with_route("prefix: /v2").replace("routeName: other", "routeName: by-day")
    words = "a second route of labels is named by-day"
    assert_one(text, "duplicate-name", "routeName", words, occurrence=2)


def test_a_client_named_as_a_node_is_found() -> None:
    """Nodes and clients share one space of identities."""
    text = changed("clientName: churn-training", "clientName: labels-v1")
    words = "client labels-v1 is named as a virtual node: they would be one identity"
    assert_one(text, "duplicate-name", "clientName", words)


def test_a_backend_listed_twice_is_found() -> None:
    """Two policies for one service would leave open which holds."""
    backend = "{virtualService: {virtualServiceName: labels.ml.local}}"
    text = changed(f"[{backend}]", f"[{backend}, {backend}]")
    words = "a second backend of churn-training is named labels.ml.local"
    assert_one(text, "duplicate-name", "backends", words)


# --- nodes and services -----------------------------------------------------------------------


def test_a_listener_without_discovery_is_found() -> None:
    """What listens must be found by its callers."""
    text = changed("      serviceDiscovery: {dns: {hostname: localhost}}\n", "")
    words = "labels-v1 has a listener and needs the field serviceDiscovery"
    at = line_with(text, "- virtualNodeName: labels-v1") + 1
    assert findings_of(text) == [("missing-field", f"mesh.yml:{at}", words)]


def test_two_nodes_at_one_address_are_found() -> None:
    """Only one of them would be reached, under the name of both."""
    text = changed("port: 18082", "port: 18081")
    words = "labels-v2 is reached at localhost:18081, as is virtualNodes[labels-v1]"
    assert_one(text, "same-address", "port: 18081", words, occurrence=2)


@pytest.mark.parametrize(
    ("old", "new", "at"),
    [("mode: STRICT", "mode: PERMISSIVE", "tls:"), (V1_TLS, "", "port: 18081")],
    ids=["permissive", "none"],
)
def test_a_listener_that_speaks_plain_text_is_found(old: str, new: str, at: str) -> None:
    """Who reaches the port is served without a name."""
    text = changed(old, new)
    (line,) = (where for code, where, _ in findings_of(text) if code == "plaintext")
    occurrence = 2 if at == "tls:" else 1  # the client's own tls stands before
    assert line == f"mesh.yml:{line_with(text, at, occurrence=occurrence)}"


def test_a_service_without_a_provider_is_found() -> None:
    """Its calls would be answered with 503."""
    text = changed("provider: {virtualRouter: {virtualRouterName: labels}}", "")
    assert_one(text, "no-provider", "- virtualServiceName", "labels.ml.local has no provider")


# --- routes -----------------------------------------------------------------------------------


def test_a_target_with_several_listeners_needs_a_port() -> None:
    """Which listener is meant must be written."""
    second = "        - {portMapping: {port: 18083, protocol: http}}\n      serviceDiscovery:"
    text = changed("      serviceDiscovery:", second)
    words = "labels-v1 listens on 18081, 18083: the target needs the field port"
    found = [it for it in findings_of(text) if it[0] == "missing-field"]
    assert found == [("missing-field", f"mesh.yml:{line_with(text, 'weight: 70')}", words)]


def test_a_target_without_a_listener_is_found() -> None:
    """A node that only calls cannot be called."""
    text = changed("virtualNode: labels-v2", "virtualNode: caller").replace(
        "virtualRouters:", "  - {virtualNodeName: caller, spec: {}}\nvirtualRouters:"
    )
    words = "caller has no listener to be called at"
    assert_one(text, "dangling-reference", "virtualNode: caller", words)


def test_weights_that_are_all_zero_are_found() -> None:
    """Envoy refuses a total of zero."""
    text = changed("weight: 70", "weight: 0").replace("weight: 30", "weight: 0")
    assert_one(text, "zero-weight", "weightedTargets", "all weights of by-day are 0")


@pytest.mark.parametrize(
    ("timeout", "words"),
    [
        ("{perRequest: {unit: ms, value: 1499}}", "is 1.499 s, but 3 tries of 0.5 s may take 1.5"),
        ("{perRequest: {unit: ms, value: 1500}}", ""),
        ("{perRequest: {unit: s, value: 0}}", ""),
        ("{idle: {unit: s, value: 1}}", ""),
    ],
    ids=["short", "enough", "lifted", "default"],
)
def test_a_time_out_that_cuts_tries_off_is_found(timeout: str, words: str) -> None:
    """The whole must hold all its tries; without a limit, or within the default, it does."""
    text = changed("timeout: {perRequest: {unit: s, value: 5}}", f"timeout: {timeout}")
    if words:
        assert_one(text, "retry-budget", "timeout:", words)
    else:
        assert "retry-budget" not in {code for code, _, _ in findings_of(text)}


@pytest.mark.parametrize(
    ("match", "rank", "hidden"),
    [
        ("prefix: /", "priority: 0", "by-day"),
        ("prefix: /v1/labels", "", "other"),
        ("prefix: /v1/labels/new", "priority: 2", "other"),
        ("path: {exact: /v1/labels/1}", "", "other"),
        ("prefix: /v1/labels, method: POST", "priority: 2", "other"),
        ("prefix: /v1/labels, headers: [{name: a}]", "priority: 2", "other"),
        ("prefix: /, method: GET", "priority: 0", ""),
        ("prefix: /, headers: [{name: a}]", "priority: 0", ""),
        ("prefix: /v1", "", ""),
        ("path: {exact: /v1/labels}", "priority: 0", ""),
    ],
)
def test_a_route_that_no_request_can_reach_is_found(match: str, rank: str, hidden: str) -> None:
    """An earlier route with the same or a wider match leaves nothing for it."""
    text = with_route(match, rank=rank)
    if hidden:
        earlier = "other" if hidden == "by-day" else "by-day"
        words = f"{earlier} is asked first and takes every request of it"
        assert_one(text, "unreachable-route", f"routeName: {hidden}", words)
    else:
        assert findings_of(text) == []


@pytest.mark.parametrize(
    ("first", "second", "hidden"),
    [
        ("{name: a}", "{name: A, match: {exact: x}}", 1),
        ("{name: a, match: {exact: x}}", "{name: a, match: {exact: x}}", 1),
        ("{name: a}", "{name: a, invert: true}", 0),
        ("{name: a, match: {exact: x}}", "{name: a}", 0),
        ("{name: a, match: {exact: x}}", "{name: a, match: {exact: y}}", 0),
        ("{name: a}", "{name: b}", 0),
    ],
)
def test_a_wider_header_match_hides_a_narrower_one(first: str, second: str, hidden: int) -> None:
    """Who compares a header's value asks that it be there."""
    text = with_route(f"prefix: /v1/labels, headers: [{first}]", rank="priority: 0").replace(
        "{prefix: /v1/labels}", f"{{prefix: /v1/labels, headers: [{second}]}}"
    )
    assert [code for code, _, _ in findings_of(text)] == ["unreachable-route"] * hidden


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("range: {start: 5, end: 5}", "range of a is empty"),
        ('regex: "("', "regex of a has a ( that nothing closes"),
        ('regex: "(?!x)"', "regex of a looks around or ahead"),
        (r'regex: "(x)\\1"', "regex of a has an escape that RE2 does not know"),
    ],
)
def test_a_header_value_that_envoy_would_refuse_is_found(method: str, words: str) -> None:
    """It is said here, with its line, before Envoy says it without one."""
    headers = f", headers: [{{name: a, match: {{{method}}}}}]"
    assert_one(with_route("prefix: /v2", headers=headers), "wrong-value", "prefix: /v2", words)


@pytest.mark.parametrize("regex", [r"\\d+", r"(?i)a|b", r"\\\\1", "(?P<a>x)"])
def test_a_regular_expression_that_envoy_reads_is_no_finding(regex: str) -> None:
    """Only what RE2 lacks is refused."""
    headers = f', headers: [{{name: a, match: {{regex: "{regex}"}}}}]'
    assert findings_of(with_route("prefix: /v2", headers=headers)) == []


# --- identities -------------------------------------------------------------------------------


def test_a_client_that_a_nodes_list_leaves_out_is_found() -> None:
    """It would see nothing but 503."""
    text = changed("spiffe://ml/churn-training", "spiffe://ml/another")
    words = (
        "labels-v1 refuses churn-training, which lists its service: "
        "spiffe://ml/churn-training is left out"
    )
    assert_one(text, "client-refused", "spiffe://ml/another", words)


def test_the_identity_that_counts_is_the_certificates() -> None:
    """A client may show a certificate that does not carry its own name."""
    text = changed("secretName: churn-training", "secretName: labels-v1")
    refused = [what for code, _, what in findings_of(text) if code == "client-refused"]
    assert {what.rsplit(": ", 1)[-1] for what in refused} == {"spiffe://ml/labels-v1 is left out"}


@pytest.mark.parametrize(
    "gone",
    ["            certificate: {sds: {secretName: churn-training}}\n", POLICY],
    ids=["certificate", "policy"],
)
def test_a_client_without_a_certificate_is_found(gone: str) -> None:
    """A node that asks for a certificate serves nobody without one."""
    text = changed(gone, "")
    at = f"mesh.yml:{line_with(text, 'backends:')}"
    words = "churn-training shows no certificate, and {} asks for one"
    assert findings_of(text) == [
        ("client-refused", at, words.format(node)) for node in ("labels-v1", "labels-v2")
    ]


def test_the_names_in_a_certificate_of_the_users_own_are_not_guessed() -> None:
    """What stands in a file is not known from the mesh."""
    own = "{file: {certificateChain: own.pem, privateKey: own.key}}"
    assert findings_of(changed("{sds: {secretName: churn-training}}", own)) == []


def test_a_node_that_a_callers_list_leaves_out_is_found() -> None:
    """A caller that accepts one version refuses the other."""
    names = '{match: {exact: ["spiffe://ml/labels-v1"]}}'
    trust = "              trust: {sds: {secretName: ml}}\n"
    text = changed(trust, f"{trust}              subjectAlternativeNames: {names}\n")
    words = "churn-training refuses labels-v2, which its backend leads to"
    assert_one(text, "server-refused", names, words)


def test_a_caller_that_insists_on_tls_is_not_content_with_a_node_without() -> None:
    """Its calls would fail before the first byte."""
    found = findings_of(changed(V1_TLS, ""))
    words = "churn-training insists on TLS, and labels-v1 speaks none on port 18081"
    assert [what for code, _, what in found if code == "server-refused"] == [words]


def test_a_caller_insists_on_tls_only_on_the_ports_it_names() -> None:
    """A policy for other ports says nothing of this one."""
    ports = "enforce: true\n            ports: [18082]"
    text = changed(V1_TLS, "").replace("enforce: true", ports)
    assert [code for code, _, _ in findings_of(text)] == ["plaintext"]


def test_a_certificate_for_other_ports_is_not_shown_at_this_one() -> None:
    """The caller speaks TLS because the node insists, and shows nothing."""
    text = changed("enforce: true", "enforce: true\n            ports: [18082]")
    at = f"mesh.yml:{line_with(text, 'backends:')}"
    words = "churn-training shows no certificate, and labels-v1 asks for one"
    assert findings_of(text) == [("client-refused", at, words)]


def test_a_permissive_node_serves_a_caller_in_plain_text() -> None:
    """It asks for a certificate only where there is TLS."""
    text = changed(POLICY, "").replace("mode: STRICT", "mode: PERMISSIVE")
    assert [code for code, _, _ in findings_of(text)] == ["plaintext", "plaintext"]


def test_a_target_with_a_port_reaches_no_other_listener() -> None:
    """What another listener of the node asks for does not count."""
    open_listener = (
        "        - {portMapping: {port: 18083, protocol: http}}\n      serviceDiscovery:"
    )
    text = (
        changed("      serviceDiscovery:", open_listener)
        .replace("weight: 70", "weight: 70, port: 18083")
        .replace("spiffe://ml/churn-training", "spiffe://ml/x", 1)
        .replace(POLICY, "")
    )
    refusing = [what for code, _, what in findings_of(text) if code == "client-refused"]
    assert refusing == ["churn-training shows no certificate, and labels-v2 asks for one"]


# --- all together -----------------------------------------------------------------------------


def test_findings_come_in_the_order_of_the_file() -> None:
    """A person mends a file from top to bottom."""
    text = changed("weight: 30", "weight: 30, port: 80").replace(
        "clientName: churn-training", "clientName: labels-v1"
    )
    lines = [int(where.split(":")[1]) for _, where, _ in findings_of(text)]
    assert lines == sorted(lines)
    assert len(lines) > 1


def test_the_same_problem_on_two_ways_is_said_once() -> None:
    """Two routes to one node make one refusal."""
    text = with_route("prefix: /v2").replace("spiffe://ml/churn-training", "spiffe://ml/x", 1)
    assert [code for code, _, _ in findings_of(text)] == ["client-refused"]


def test_a_file_of_the_wrong_form_keeps_its_own_findings() -> None:
    """Rules on names wait until the form is right."""
    loaded = load_mesh(changed("weight: 30", "weight: x"), source="mesh.yml")
    assert check_mesh(loaded) == loaded.findings


def test_every_finding_carries_advice() -> None:
    """A finding without a next step helps nobody."""
    assert [name for name, code in CODES.items() if not code.advice] == []


# --- require_mesh -----------------------------------------------------------------------------


def test_a_mesh_with_warnings_is_given() -> None:
    """Warnings stop no journey."""
    loaded = load_mesh(changed("mode: STRICT", "mode: PERMISSIVE"), source="mesh.yml")
    assert require_mesh(loaded) is loaded.mesh


@pytest.mark.parametrize(
    ("old", "new", "count"),
    [
        ("weight: 30", "weight: x", "1 error:"),
        ("virtualNode: labels-v2", "virtualNode: x", "1 error:"),
        ("port: 18082, protocol: http", "port: 0, protocol: x", "2 errors, the first of them:"),
    ],
    ids=["form", "rule", "two"],
)
def test_a_mesh_with_errors_is_refused_with_the_first(old: str, new: str, count: str) -> None:
    """The message is enough to begin with, and says how to see the rest."""
    loaded = load_mesh(changed(old, new), source="my mesh.yml")
    with pytest.raises(MeshInvalidError) as caught:
        require_mesh(loaded)
    first = caught.value.findings[0]
    assert caught.value.message == f"my mesh.yml has {count} {first}"
    assert caught.value.advice == "meshml check 'my mesh.yml'"
    assert {one.severity for one in caught.value.findings} == {Severity.ERROR}
