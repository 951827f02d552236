"""Explanations: each line says what was decided, and where in the file it comes from."""

import json

import pytest

from meshml_dbx.errors import MeshMLError, UnknownNameError
from meshml_dbx.mesh.asked import Question, explain, request_of
from meshml_dbx.mesh.explained import RequestExplanation
from meshml_dbx.mesh.load import load_mesh
from tests.mesh.ml_example import line_with

SERVICE = "labels.ml.local"
TEXT = """\
mesh: {meshName: ml}
injectedDefaults: modern
clients:
  - clientName: churn-training
    role: training
    spec:
      backends:
        - {virtualService: {virtualServiceName: labels.ml.local}}
        - {virtualService: {virtualServiceName: nobody.ml.local}}
        - {virtualService: {virtualServiceName: store.ml.local}}
      backendDefaults:
        clientPolicy:
          tls:
            certificate: {sds: {secretName: churn-training}}
            validation: {trust: {sds: {secretName: ml}}}
virtualNodes:
  - virtualNodeName: labels
    spec:
      listeners:
        - portMapping: {port: 18081, protocol: http}
          timeout: {http: {perRequest: {unit: s, value: 7}}}
          tls:
            mode: STRICT
            certificate: {sds: {secretName: labels}}
            validation: {trust: {sds: {secretName: ml}}}
      serviceDiscovery: {dns: {hostname: labels.corp}}
  - virtualNodeName: store
    spec:
      listeners: [{portMapping: {port: 5432, protocol: tcp}}]
      serviceDiscovery: {dns: {hostname: store.corp}}
virtualRouters:
  - virtualRouterName: labels
    spec: {listeners: [{portMapping: {port: 80, protocol: http}}]}
    routes:
      - routeName: canary
        spec:
          priority: 1
          httpRoute:
            match: {prefix: /v1, headers: [{name: x-cohort, match: {exact: b}}]}
            action: {weightedTargets: [{virtualNode: labels, weight: 1}]}
            timeout: {perRequest: {unit: s, value: 3}}
            retryPolicy:
              maxRetries: 1
              perRetryTimeout: {unit: ms, value: 500}
              httpRetryEvents: [gateway-error]
      - routeName: rest
        spec:
          httpRoute:
            match: {prefix: /v1}
            action: {weightedTargets: [{virtualNode: labels, weight: 1}]}
      - routeName: off
        spec:
          httpRoute:
            match: {path: {exact: /off}}
            action: {weightedTargets: [{virtualNode: labels, weight: 0}]}
virtualServices:
  - virtualServiceName: labels.ml.local
    spec: {provider: {virtualRouter: {virtualRouterName: labels}}}
  - virtualServiceName: nobody.ml.local
  - virtualServiceName: hidden.ml.local
    spec: {provider: {virtualNode: {virtualNodeName: labels}}}
  - virtualServiceName: store.ml.local
    spec: {provider: {virtualNode: {virtualNodeName: store}}}
virtualGateways:
  - virtualGatewayName: way-in
    spec: {listeners: [{portMapping: {port: 8088, protocol: http}}]}
    gatewayRoutes:
      - gatewayRouteName: api
        spec:
          httpRoute:
            match: {prefix: /api/, hostname: {suffix: .example.com}}
            action:
              target: {virtualService: {virtualServiceName: labels.ml.local}}
              rewrite: {prefix: {value: /v1/}}
"""


def asked(
    address: str,
    *headers: str,
    text: str = TEXT,
    client: str | None = None,
    gateway: str | None = None,
    service: str | None = None,
    grpc: str | None = None,
) -> RequestExplanation:
    """The answer to a question of the mesh's only client, unless another is named."""
    question = Question(
        call=tuple(address.split()),
        headers=headers,
        client=client,
        gateway=gateway,
        service=service,
        grpc=grpc,
    )
    return explain(load_mesh(text, source="mesh.yml"), question)


def test_every_rule_is_told_in_order_up_to_the_winner() -> None:
    """Why the first did not take it, and why the second did."""
    found = asked("GET http://labels.ml.local/v1/x", "X-Cohort: a")
    told = [(it.name, it.taken, [str(check) for check in it.checks]) for it in found.considered]
    path = "met: path is /v1/x, wanted path that starts with /v1"
    assert told == [
        (
            "canary",
            False,
            [path, "NOT met: header x-cohort is 'a', wanted exact 'b'"],
        ),
        ("off", False, ["NOT met: path is /v1/x, wanted path exactly /off"]),
        ("rest", True, [path]),
    ]
    where = "virtualRouters[labels].routes[canary].spec.httpRoute.match.headers[0].match"
    assert found.considered[0].checks[1].where == f"mesh.yml:{line_with(TEXT, 'x-cohort')} {where}"


def test_what_comes_after_the_winner_is_not_asked() -> None:
    """A proxy takes the first that fits; the names of the others are told."""
    found = asked("http://labels.ml.local/v1", "x-cohort: b")
    assert [it.name for it in found.considered] == ["canary"]
    assert found.not_asked == ("off", "rest")
    assert "  not asked any more: off, rest" in found.lines()
    assert found.sentence.endswith("of churn-training takes route canary")


def test_each_policy_says_where_it_comes_from() -> None:
    """Declared with its line, App Mesh's default, or injected by the mesh's switch."""
    declared = asked("http://labels.ml.local/v1", "x-cohort: b").settings
    injected = asked("http://labels.ml.local/v1").settings
    assert [(it.name, it.value, it.source) for it in declared] == [
        ("perRequest", "3 s", "declared"),
        ("idle", "300 s", "App Mesh's default"),
        ("retries", "1 retry on gateway-error, each try up to 0.5 s", "declared"),
    ]
    assert declared[0].where.startswith(f"mesh.yml:{line_with(TEXT, 'value: 3')} ")
    assert injected[0].source == "App Mesh's default"
    assert injected[2].source == "injected, as App Mesh did (injectedDefaults: modern)"
    assert injected[2].where == "mesh.yml:2 injectedDefaults"


def test_a_target_says_who_is_expected_who_is_shown_and_its_own_limits() -> None:
    """The identity that the client policy expects, and the listener's time-out."""
    (target,) = asked("http://labels.ml.local/v1").targets
    assert (target.share, target.address) == (1.0, "labels.corp:18081")
    assert (target.peer.expected, target.peer.shown, target.peer.asked) == (
        ("spiffe://ml/labels",),
        "spiffe://ml/churn-training",
        True,
    )
    limit = target.settings[0]
    assert (limit.name, limit.value, limit.source) == ("perRequest", "7 s", "declared")


@pytest.mark.parametrize(
    ("address", "outcome", "route", "advice"),
    [
        ("http://labels.ml.local/x", "no-route", "meshml:no-route", "virtualRouters[labels]"),
        ("http://labels.ml.local/off", "no-weight", "off", "weight above 0"),
        ("http://nobody.ml.local/", "no-provider", "meshml:no-provider", "a provider"),
        (
            "http://hidden.ml.local/",
            "dropped",
            "meshml:drop-all",
            "add virtual service hidden.ml.local to clients[churn-training].spec.backends",
        ),
        ("http://labels.ml.local:81/", "dropped", "meshml:drop-all", "labels.ml.local:80"),
        ("http://label.ml.local/", "dropped", "meshml:drop-all", "did you mean labels.ml.local?"),
        ("http://s3.amazonaws.com/", "external", "meshml:external", ""),
        ("https://labels.ml.local/v1", "tunnel", "meshml:tunnel", "call http://"),
    ],
)
def test_what_nobody_takes_is_said_with_advice(
    address: str, outcome: str, route: str, advice: str
) -> None:
    """The name that the proxy logs, and what to change."""
    found = asked(address)
    assert (found.outcome, found.route) == (outcome, route)
    assert advice in found.advice
    assert found.is_taken == (outcome in {"external", "tunnel"})


def test_a_gateway_is_asked_first_then_the_router() -> None:
    """The router sees the request as the gateway rewrote it."""
    found = asked("GET http://shop.example.com/api/x", "x-cohort: b", gateway="way-in")
    assert [(it.kind, it.name, it.taken) for it in found.considered] == [
        ("gateway route", "api", True),
        ("route", "canary", True),
    ]
    assert "path is /v1/x" in str(found.considered[1].checks[0])
    sent_on = "GET http://labels.ml.local/v1/x"
    assert [it.asks_for for it in found.considered] == [sent_on, ""]
    assert f"       asks the mesh for {sent_on}" in found.lines()
    assert asked("http://shop.org/api/x", gateway="way-in").outcome == "no-gateway-route"


def test_a_gateways_route_to_where_nobody_takes_requests_is_no_missing_route() -> None:
    """It took the request; what it leads to does not."""
    text = TEXT.replace(
        "target: {virtualService: {virtualServiceName: labels.ml.local}}",
        "target: {virtualService: {virtualServiceName: store.ml.local}}",
    )
    found = asked("http://shop.example.com/api/x", gateway="way-in", text=text)
    assert (found.outcome, found.is_taken) == ("no-gateway-route", False)
    words = "gateway route api sends it to store.ml.local, where nobody takes it: answered 404"
    assert found.sentence.endswith(f"of way-in: {words}")
    assert found.advice == "give store.ml.local a listener of http, or route api another target"


def test_a_service_alone_is_explained_whoever_calls() -> None:
    """Nobody's policy is known then."""
    found = asked("http://any/v1", service="hidden.ml.local")
    assert (found.outcome, found.caller) == ("node", "anyone")
    assert found.targets[0].peer.said.startswith("who calls is not said")


def test_a_connection_of_tcp_goes_to_the_services_node() -> None:
    """It has no request to look at, so nothing but its address decides."""
    question = Question(tcp="store.ml.local:5432")
    found = explain(load_mesh(TEXT, source="mesh.yml"), question)
    assert (found.outcome, [it.name for it in found.settings]) == ("node", ["idle"])
    assert found.targets[0].address == "store.corp:5432"
    missed = explain(load_mesh(TEXT, source="mesh.yml"), Question(tcp="store.ml.local:1"))
    assert "there is no local port for it" in missed.sentence
    assert "store.ml.local:5432" in missed.advice


def test_a_grpc_call_meets_no_service_that_speaks_only_http() -> None:
    """The port of gRPC has the services that speak it."""
    found = asked("http://labels.ml.local", grpc="v1.Labels/Get")
    assert (found.request, found.outcome) == (
        "POST http://labels.ml.local/v1.Labels/Get",
        "dropped",
    )


def test_an_unknown_parameter_does_not_stop_an_explanation() -> None:
    """What the file leaves open is shown as it stands."""
    text = TEXT.replace("hostname: labels.corp", "hostname: '${LABELS_HOST}'")
    (target,) = asked("http://labels.ml.local/v1", text=text).targets
    assert target.address == "${LABELS_HOST}:18081"


def test_a_backend_or_target_that_is_a_parameter_stops_no_other() -> None:
    """Who calls a name that is not given yet still learns about the names that are."""
    backend = "        - {virtualService: {virtualServiceName: '${LATER}'}}\n"
    begun = "        - {virtualService: {virtualServiceName: nobody.ml.local}}\n"
    target = "{virtualNode: labels, weight: 1}"
    text = TEXT.replace(begun, begun + backend).replace(target, "{virtualNode: '${N}', weight: 1}")
    found = asked("http://labels.ml.local/v1", text=text)
    assert (found.route, found.targets[0].address) == ("rest", "nowhere")
    assert "--param" in found.targets[0].peer.said


def test_of_an_upstream_outside_the_mesh_its_own_name_is_expected() -> None:
    """Without a client policy too: the caller's machine knows the authorities that sign for it."""
    text = (
        TEXT.replace("      backendDefaults:\n        clientPolicy:\n          tls:\n", "", 1)
        .replace("            certificate: {sds: {secretName: churn-training}}\n", "", 1)
        .replace("            validation: {trust: {sds: {secretName: ml}}}\n", "", 1)
        .replace(
            "virtualNodeName: labels\n",
            "virtualNodeName: labels\n    databricks: {servingEndpoint: labels}\n",
            1,
        )
    )
    (target,) = asked("http://labels.ml.local/v1", text=text).targets
    assert (target.peer.encrypted, target.peer.expected) == (True, ("labels.corp",))
    assert "must have signed" in target.peer.said


def test_a_long_time_is_told_to_the_millisecond() -> None:
    """A million seconds and a half, not 1e+06."""
    text = TEXT.replace("{unit: s, value: 3}", "{unit: ms, value: 1000000500}")
    found = asked("GET http://labels.ml.local/v1", "x-cohort: b", text=text)
    assert next(it.value for it in found.settings if it.name == "perRequest") == "1000000.5 s"


def test_time_outs_of_tcp_are_not_those_of_requests() -> None:
    """A listener of http that declares some has App Mesh's defaults, in Envoy and in words."""
    declared = "timeout: {http: {perRequest: {unit: s, value: 7}}}"
    text = TEXT.replace(declared, "timeout: {tcp: {idle: {unit: s, value: 7}}}")
    (target,) = asked("http://labels.ml.local/v1", text=text).targets
    assert [(it.name, it.value) for it in target.settings] == [
        ("perRequest", "15 s"),
        ("idle", "300 s"),
    ]


def test_an_explanation_is_plain_data() -> None:
    """JSON takes it as it is."""
    found = asked("http://labels.ml.local/v1")
    told = json.loads(json.dumps(found.to_json()))
    assert (told["route"], told["targets"][0]["peer"]["expected"]) == (
        "rest",
        ["spiffe://ml/labels"],
    )


def test_a_question_that_is_none_is_told_how_to_ask() -> None:
    """A wrong address, a wrong header, nobody of that name."""
    with pytest.raises(MeshMLError, match="no address of http or https"):
        request_of(["ftp://labels"], [])
    with pytest.raises(MeshMLError, match="is no header"):
        request_of(["http://labels"], ["x"])
    with pytest.raises(MeshMLError, match="a method and an address"):
        request_of([], [])
    with pytest.raises(UnknownNameError, match="mesh ml has no client churn"):
        asked("http://labels.ml.local", client="churn")


def test_an_address_is_sent_as_clients_send_it() -> None:
    """Spaces and other languages are percent-encoded, a fragment stays at home."""
    sent = request_of(["labels.ml.local:80/a b/é?q=ü#top"], [])
    assert (sent.authority, sent.path) == ("labels.ml.local:80", "/a%20b/%C3%A9?q=%C3%BC")
