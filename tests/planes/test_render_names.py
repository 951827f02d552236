"""The names that Kubernetes, ECS and compose know a member by: their own letters, nobody else's."""

from meshml_dbx.planes.render_terms import resource_name


def test_long_names_that_begin_alike_stay_apart() -> None:
    """Else the second member that is applied would take the first one's place."""
    names = [f"prediction-service_a-very-long-namespace-of-a-team_{it}" for it in ("v1", "v2")]
    made = [resource_name(name) for name in names]
    assert len(set(made)) == len(names)
    assert max(map(len, made)) <= 50
    assert made == [resource_name(name) for name in names]


def test_short_names_stay_readable() -> None:
    """Whoever lists pods sees the name of the mesh file."""
    assert resource_name("labels_v2.EU") == "labels-v2-eu"
