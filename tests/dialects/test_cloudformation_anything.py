"""Whatever stands in a template, it ends in resources and findings, and every value is named."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialects.templates import taken_from

NAMES = ["A", "B", "C", "P", "Q", "Mesh", "AWS::NoValue", "AWS::Region", "Missing"]
WORDS = st.sampled_from([*NAMES, "A.MeshName", "B.VirtualServiceName", "${A.Arn}", "x-${P}", ","])
PLAIN = st.one_of(WORDS, st.integers(-3, 300), st.booleans(), st.none())
FUNCTIONS = [
    *("Ref", "Condition", "Fn::And", "Fn::Base64", "Fn::Cidr", "Fn::Equals", "Fn::FindInMap"),
    *("Fn::ForEach::X", "Fn::GetAZs", "Fn::GetAtt", "Fn::If", "Fn::ImportValue", "Fn::Join"),
    *("Fn::Length", "Fn::Not", "Fn::Nothing", "Fn::Or", "Fn::Select", "Fn::Split", "Fn::Sub"),
    *("Fn::ToJsonString", "Fn::Transform"),
]
FIELDS = ["Spec", "Listeners", "PortMapping", "Port", "Tags", "Key", "Value", "MeshName", "Export"]


def nested(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """Lists, tables and functions of what is inside."""
    return st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from([*FIELDS, *FUNCTIONS]), inner, max_size=3),
        st.builds(lambda name, value: {name: value}, st.sampled_from(FUNCTIONS), inner),
    )


VALUES = st.recursive(PLAIN, nested, max_leaves=12)
PROPERTIES = ["MeshName", "VirtualServiceName", "VirtualRouterName", "RouteName", "Spec", "Tags"]
TYPES = ["Mesh", "VirtualService", "Route", "VirtualNode", "Unheard"]
RESOURCES = st.dictionaries(
    st.sampled_from(["A", "B", "Mesh", "Fn::ForEach::X"]),
    st.one_of(
        VALUES,
        st.fixed_dictionaries(
            {
                "Type": st.sampled_from([f"AWS::AppMesh::{it}" for it in TYPES]),
                "Properties": st.dictionaries(st.sampled_from(PROPERTIES), VALUES, max_size=5),
            },
            optional={"Condition": st.sampled_from(["C", "P"]), "DependsOn": VALUES},
        ),
    ),
    max_size=3,
)
NAMED = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3)
TEMPLATES = st.fixed_dictionaries(
    {"Resources": RESOURCES},
    optional={
        "Parameters": NAMED,
        "Conditions": NAMED,
        "Mappings": NAMED,
        "Outputs": NAMED,
        "Transform": VALUES,
        "Metadata": VALUES,
    },
)


@settings(max_examples=200, deadline=None)
@given(template=TEMPLATES, value=st.sampled_from(["", "a,b", "${P}", "7"]))
def test_any_template_is_taken_over_or_said_to_be_wrong(
    template: dict[str, object], value: str
) -> None:
    """No function, shape or cycle raises, and no value is lost without a word."""
    taken = taken_from([("app.json", json.dumps(template))], {"P": value})
    assert taken.leftover == ()
