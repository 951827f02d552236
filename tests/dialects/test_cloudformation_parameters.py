"""A template's parameters and conditions: what holds, what is unknown, and what is said of it."""

import pytest

from tests.dialects.templates import host, host_of, spec_of, take

# --- parameters -------------------------------------------------------------------------------


def parameter(declared: str, **given: str) -> tuple[object, list[str]]:
    """What a parameter's declaration comes to, and the findings beside what is always left."""
    taken = take(host("!Ref P", f"Parameters: {{P: {declared}}}\n"), given=given)
    assert taken.leftover == ()
    return host_of(taken), [it for it in taken.codes() if it != "template-part"]


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("{Type: String, Default: a}", "a"),
        ("{Type: String}", "${P}"),
        ("{Type: Number, Default: 8}", "8"),
        ("{Type: String, Default: true}", "true"),
        ("{Type: String, Default: True}", "true"),
        ("{Type: String, Default: 'True'}", "True"),
        ("{Type: AWS::EC2::VPC::Id, Default: vpc-1}", "vpc-1"),
        ("{Type: 'AWS::SSM::Parameter::Value<String>', Default: /ml/host}", "${P}"),
        ("{Type: AWS::SSM::Parameter::Name, Default: /ml/host}", "/ml/host"),
        ("{Type: String, Default: hush, NoEcho: true}", "${P}"),
    ],
)
def test_a_default_is_the_value_unless_it_is_none(declared: str, expected: str) -> None:
    """A path into the SSM store is not the value there; what is not to be shown is not used."""
    assert parameter(declared) == (expected, [])


@pytest.mark.parametrize(
    "declared",
    [
        "{Type: String, Default: a}",
        "{Type: String}",
        "{Type: 'AWS::SSM::Parameter::Value<String>', Default: /ml/host}",
        "{Type: String, Default: hush, NoEcho: true}",
    ],
)
def test_what_is_given_goes_before_any_default(declared: str) -> None:
    """Of a parameter in the SSM store, too, the value itself is given."""
    assert parameter(declared, P="given") == ("given", [])


@pytest.mark.parametrize(
    "kind",
    [
        "CommaDelimitedList",
        "List<Number>",
        "List<AWS::EC2::Subnet::Id>",
        "AWS::SSM::Parameter::Value<List<String>>",
        "AWS::SSM::Parameter::Value<CommaDelimitedList>",
    ],
)
def test_every_type_of_list_is_a_list(kind: str) -> None:
    """Its items are told apart, also where a type stands in brackets."""
    declared = f"Parameters: {{P: {{Type: '{kind}'}}}}\n"
    taken = take(host("!Select [1, !Ref P]", declared), given={"P": "8, 9"})
    assert (host_of(taken), taken.leftover) == ("9", ())


@pytest.mark.parametrize(
    ("declared", "given", "wrong"),
    [
        ("{Type: String, AllowedValues: [a, b]}", "c", "is c; it must be one of a, b"),
        ("{Type: String, AllowedValues: [true, false]}", "True", "must be one of true, false"),
        ("{Type: Number, AllowedValues: [0, 1]}", "2", "is 2; it must be one of 0, 1"),
        ("{Type: Number}", "many", "is many; it must be a number"),
        ("{Type: Number, MinValue: 1}", "0", "must be at least 1"),
        ("{Type: Number, MaxValue: 9}", "10", "must be at most 9"),
        ("{Type: String, MinLength: 2}", "a", "must be at least 2 characters long"),
        ("{Type: List<Number>}", "1, two", "it must be a number"),
        ("{Type: CommaDelimitedList, AllowedValues: [a]}", "a,b", "must be one of a"),
    ],
)
def test_a_value_that_the_declaration_rules_out_is_an_error(
    declared: str, given: str, wrong: str
) -> None:
    """As CloudFormation would have refused it, with the values that it takes."""
    taken = take(host("!Sub 'x'", f"Parameters: {{P: {declared}}}\n"), given={"P": given})
    assert "template-parameter" not in taken.codes()  # nothing of the mesh asks for it
    asked = take(
        host("!Join ['', [!Ref P]]", f"Parameters: {{P: {declared}}}\n"), given={"P": given}
    )
    (found,) = (it for it in asked.findings if it.code == "template-parameter")
    assert wrong in found.what


def test_a_value_for_a_parameter_that_no_mesh_needs_was_not_given_in_vain() -> None:
    """A whole stack's parameters may be given; only those that no template declares are odd."""
    declared = "Parameters: {Image: {Type: String}}\n"
    taken = take(host("labels.local", declared), given={"Image": "envoy", "Imgae": "envoy"})
    assert (taken.unused, taken.unknown) == (("Imgae",), ())


def test_a_hidden_value_is_in_no_finding() -> None:
    """NoEcho: the finding says that the value is wrong, not what it is."""
    declared = "{Type: String, NoEcho: true, AllowedValues: [a]}"
    taken = take(host("!Ref P", f"Parameters: {{P: {declared}}}\n"), given={"P": "hush"})
    (found,) = (it for it in taken.findings if it.code == "template-parameter")
    assert "hush" not in str(found)


# --- conditions -------------------------------------------------------------------------------

CHOICE = """
    Parameters:
      Known: {Type: String, Default: dev}
      Unknown: {Type: String}
    Conditions:
      C: %s
    Resources:
      Mesh:
        Type: AWS::AppMesh::Mesh
        Properties:
          MeshName: !If [C, holds, fails]
"""


def choice(condition: str) -> tuple[object, list[str]]:
    """What a condition comes to, and the codes of warnings."""
    taken = take(CHOICE % condition)
    assert taken.leftover == ()
    (mesh,) = taken.resources
    assert mesh.name is not None
    return mesh.name.value, [it.code for it in taken.findings if it.severity != "info"]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("!Equals [!Ref Known, dev]", "holds"),
        ("!Equals [!Ref Known, prod]", "fails"),
        ("{'Fn::Equals': [{Ref: Known}, dev]}", "holds"),
        ("!Equals [true, 'true']", "holds"),
        ("!Equals [1, '1']", "holds"),
        ("!Not [!Equals [a, a]]", "fails"),
        ("!And [!Equals [a, a], !Equals [b, b]]", "holds"),
        ("!And [!Equals [a, a], !Equals [a, b]]", "fails"),
        ("!Or [!Equals [a, b], !Equals [b, b]]", "holds"),
        ("!Equals [!Ref Unknown, !Ref Unknown]", "holds"),
        ("!And [!Equals [a, b], !Equals [!Ref Unknown, x]]", "fails"),
        ("!Or [!Equals [a, a], !Equals [!Ref Unknown, x]]", "holds"),
        ("!Equals [!Select [0, [a, b]], a]", "holds"),
    ],
)
def test_a_condition_is_decided_where_what_is_known_decides_it(
    condition: str, expected: str
) -> None:
    """An unknown beside a part that decides alone costs no warning."""
    assert choice(condition) == (expected, [])


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("!Equals [!Ref Unknown, x]", "fails"),
        ("!Not [!Equals [!Ref Unknown, x]]", "holds"),
        ("!And [!Equals [a, a], !Equals [!Ref Unknown, x]]", "fails"),
        ("!Or [!Equals [a, b], !Not [!Equals [!Ref Unknown, x]]]", "holds"),
        ("!Equals [!Sub '${AWS::Region}', eu-west-1]", "fails"),
    ],
)
def test_an_unknown_is_equal_to_nothing_and_that_is_said(condition: str, expected: str) -> None:
    """All conditions are taken alike: as of a value that is none of those compared."""
    assert choice(condition) == (expected, ["template-condition"])


def test_the_finding_of_an_undecided_condition_says_what_to_give() -> None:
    """Once a condition, however often it is used, at the place of its declaration."""
    text = CHOICE % "!Equals [!Ref Unknown, x]" + "      Tags: [{Key: a, Value: !If [C, b, c]}]\n"
    (found,) = (it for it in take(text).findings if it.code == "template-condition")
    assert found.where == "app0.yaml:6 Conditions.C"
    assert found.what == (
        "the condition C hangs on Unknown, which is unknown; it is taken as false"
    )
    assert found.advice == "give --param Unknown=VALUE"


@pytest.mark.parametrize(
    "condition", ["true", "!Ref Known", "!Equals [a]", "!Not []", "!Condition Nowhere", "!And a"]
)
def test_a_condition_that_is_none_is_an_error_and_taken_as_false(condition: str) -> None:
    """The import goes on, and says at which line."""
    name, codes = choice(condition)
    assert name == "fails"
    assert codes[0] in {"template-intrinsic", "template-reference"}


def test_a_resource_whose_condition_does_not_hold_is_left_with_a_finding() -> None:
    """Its place and its condition are named; the other stays."""
    text = """
        Parameters: {Blue: {Type: String, Default: 'false'}}
        Conditions:
          IsBlue: !Equals [!Ref Blue, 'true']
          IsGreen: !Not [!Condition IsBlue]
        Resources:
          B: {Type: AWS::AppMesh::Mesh, Condition: IsBlue, Properties: {MeshName: blue}}
          G: {Type: AWS::AppMesh::Mesh, Condition: IsGreen, Properties: {MeshName: green}}
    """
    taken = take(text)
    (left,) = (it for it in taken.findings if it.code == "template-branch")
    assert left.where == "app0.yaml:7 Resources.B"
    assert [it.name.value for it in taken.resources if it.name] == ["green"]
    assert taken.leftover == ()
    assert [it.name.value for it in take(text, given={"Blue": "true"}).resources if it.name] == [
        "blue"
    ]


BRANCHES = """
    Parameters: {Tls: {Type: String, Default: 'no'}}
    Conditions: {HasTls: !Equals [!Ref Tls, 'yes']}
    Resources:
      Node:
        Type: AWS::AppMesh::VirtualNode
        Properties:
          MeshName: ml
          VirtualNodeName: labels
          Spec:
            Backends:
              - !If [HasTls, {VirtualService: {VirtualServiceName: a}}, !Ref AWS::NoValue]
              - VirtualService: {VirtualServiceName: b}
            Listeners:
              - PortMapping: {Port: !If [HasTls, 443, '80'], Protocol: http}
                TLS:
                  Fn::If:
                    - HasTls
                    - Mode: STRICT
                      Certificate: {ACM: {CertificateArn: arn}}
                    - !Ref AWS::NoValue
"""


def test_no_value_takes_a_field_or_an_entry_away() -> None:
    """Wherever an If may stand; the branch that is not taken is named."""
    taken = take(BRANCHES)
    assert spec_of(taken.one("virtualNode", "labels")) == {
        "backends": [{"virtualService": {"virtualServiceName": "b"}}],
        "listeners": [{"portMapping": {"port": 80, "protocol": "http"}}],
    }
    assert [it.where for it in taken.findings if it.code == "template-branch"] == [
        "app0.yaml:12 Resources.Node.Properties.Spec.Backends[0][1]",
        "app0.yaml:15 Resources.Node.Properties.Spec.Listeners[0].PortMapping.Port[1]",
        "app0.yaml:19 Resources.Node.Properties.Spec.Listeners[0].TLS.Fn::If[1]",
    ]
    assert taken.leftover == ()


def test_the_other_branch_is_taken_where_the_condition_holds() -> None:
    """The same template with the parameter that turns it."""
    taken = take(BRANCHES, given={"Tls": "yes"})
    assert spec_of(taken.one("virtualNode", "labels")) == {
        "backends": [
            {"virtualService": {"virtualServiceName": "a"}},
            {"virtualService": {"virtualServiceName": "b"}},
        ],
        "listeners": [
            {
                "portMapping": {"port": 443, "protocol": "http"},
                "tls": {"mode": "STRICT", "certificate": {"acm": {"certificateArn": "arn"}}},
            }
        ],
    }
    assert len([it for it in taken.codes() if it == "template-branch"]) == 1
