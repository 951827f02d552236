"""Where a setting comes from: argument, environment, the state folder's file, default."""

from pathlib import Path

import pytest

from meshml_dbx.errors import MeshMLError
from meshml_dbx.settings import Settings, read_settings, store_settings

NAMES = ("mesh", "logs", "lake", "tracking", "environment")


def value_of(settings: Settings, name: str) -> str:
    """A setting as a text."""
    return str(getattr(settings, name))


def test_without_any_source_the_defaults_hold() -> None:
    """Everything lies in .meshml, and MLflow chooses its own store."""
    assert read_settings({}) == Settings(
        mesh=Path("mesh.yml"),
        state=Path(".meshml"),
        logs=Path(".meshml/logs"),
        lake=".meshml/lake",
    )


def test_logs_and_lake_follow_the_state_folder(tmp_path: Path) -> None:
    """Who moves the state folder moves all that is in it."""
    settings = read_settings({}, state=tmp_path)
    assert (settings.logs, settings.lake) == (tmp_path / "logs", str(tmp_path / "lake"))
    assert settings.folder.reports == tmp_path / "reports"


@pytest.mark.parametrize("name", NAMES)
def test_the_first_source_that_has_a_setting_wins(tmp_path: Path, name: str) -> None:
    """Argument before variable before file; what a source lacks, the next one gives."""
    store_settings(tmp_path, **{name: "from-file"})
    variables = {f"MESHML_{name.upper()}": "from-variable"}
    by_argument = read_settings(variables, state=tmp_path, **{name: "from-argument"})
    by_variable = read_settings(variables, state=tmp_path, **{name: None})
    by_file = read_settings({}, state=tmp_path)
    found = [value_of(settings, name) for settings in (by_argument, by_variable, by_file)]
    assert found == ["from-argument", "from-variable", "from-file"]


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_variable_is_none(name: str) -> None:
    """``MESHML_LOGS= meshml why`` is how a shell takes a variable away."""
    assert read_settings({f"MESHML_{name.upper()}": ""}) == read_settings({})


def test_the_state_folder_itself_comes_from_argument_or_variable(tmp_path: Path) -> None:
    """And its settings file is read from where it then is."""
    here, there = tmp_path / "here", tmp_path / "there"
    store_settings(here, lake="main.here")
    store_settings(there, lake="main.there")
    variables = {"MESHML_STATE": str(there)}
    assert read_settings(variables).lake == "main.there"
    assert read_settings(variables, state=here).lake == "main.here"


def test_the_environment_of_the_process_is_read_when_asked(tmp_path: Path) -> None:
    """Not at import: a notebook may set a variable first."""
    import os

    os.environ["MESHML_LAKE"] = "main.mesh"
    try:
        assert read_settings(state=tmp_path).lake == "main.mesh"
    finally:
        del os.environ["MESHML_LAKE"]
    assert read_settings(state=tmp_path).lake != "main.mesh"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"\xff\xfe\x00", "can't decode"),
        (b"[1, 2]", "it holds no JSON object"),
        (b"null", "it holds no JSON object"),
        (b'{"lake": 7}', "the value of lake is no text"),
        (b'{"mesh": "m.yml", "logs": ["a"]}', "the value of logs is no text"),
    ],
)
def test_a_broken_settings_file_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    """One message with the file, what is wrong with it, and what to do."""
    path = tmp_path / "settings.json"
    path.write_bytes(content)
    with pytest.raises(MeshMLError) as caught:
        read_settings({}, state=tmp_path)
    assert caught.value.message.startswith(f"could not read {path}: ")
    assert reason in caught.value.message
    assert caught.value.advice == f"mend or remove {path}"


def test_null_and_unknown_names_in_the_file_are_passed_over(tmp_path: Path) -> None:
    """A file of a newer version still serves."""
    (tmp_path / "settings.json").write_text('{"lake": null, "colour": "green"}')
    assert read_settings({}, state=tmp_path) == read_settings({}, state=str(tmp_path))
    assert read_settings({}, state=tmp_path).lake == str(tmp_path / "lake")


def test_a_password_in_the_stores_address_is_not_shown() -> None:
    """A traceback or a log line with settings in it tells no secret."""
    settings = read_settings({}, tracking="postgresql://ml:s3cr3t@db/mlflow")
    assert settings.tracking == "postgresql://ml:s3cr3t@db/mlflow"
    assert "s3cr3t" not in f"{settings!r} {settings} {[settings]}"


def test_settings_cannot_be_changed_afterwards() -> None:
    """Whoever was handed them can rely on them."""
    with pytest.raises(AttributeError):
        read_settings({}).lake = "main.other"  # type: ignore[misc]  # that is the point


def test_storing_makes_the_folder_and_replaces_what_was_stored(tmp_path: Path) -> None:
    """The last one who stored is who is remembered."""
    state = tmp_path / "a" / "b"
    store_settings(state, lake="main.one", tracking="http://x")
    store_settings(state, lake="main.two")
    settings = read_settings({}, state=state)
    assert (settings.lake, settings.tracking) == ("main.two", None)
