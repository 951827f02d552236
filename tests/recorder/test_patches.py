"""Methods put in place of others, and imports that are told of: undone without a trace."""

import importlib
import importlib.resources
import importlib.util
import inspect
import json
import pkgutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from meshml_dbx.recorder.patches import ImportWatch, Method, Patches


class Pool:
    """Somebody's class."""

    def get(self) -> int:
        """One."""
        return 1


class Child(Pool):
    """Inherits the method."""


def add_one(method: Method) -> Method:
    """A wrapper."""
    return lambda self: method(self) + 1


def test_a_method_is_put_back_exactly() -> None:
    """The class holds the same object as before, and the wrapper had its name and text."""
    before = vars(Pool)["get"]
    patches = Patches()
    patches.replace(Pool, "get", add_one)
    assert (Pool().get(), Pool.get.__name__, Pool.get.__doc__) == (2, "get", "One.")
    patches.undo()
    assert vars(Pool)["get"] is before


def test_a_method_that_was_inherited_is_inherited_again() -> None:
    """The class holds no method of that name afterwards."""
    patches = Patches()
    patches.replace(Child, "get", add_one)
    assert (Child().get(), Pool().get()) == (2, 1)
    patches.undo()
    assert "get" not in vars(Child)


def test_a_method_is_replaced_once() -> None:
    """A module that is loaded again has the same classes: its calls count once."""
    patches = Patches()
    patches.replace(Pool, "get", add_one)
    patches.replace(Pool, "get", add_one)
    assert Pool().get() == 2
    patches.undo()
    assert Pool().get() == 1


def test_what_somebody_replaced_since_stays_theirs() -> None:
    """Another instrumentation, put on top of ours, is not taken away."""
    before = vars(Pool)["get"]
    patches = Patches()
    patches.replace(Pool, "get", add_one)
    theirs = add_one(vars(Pool)["get"])
    Pool.get = theirs  # type: ignore[method-assign]  # as other instrumentations do
    patches.undo()
    try:
        assert vars(Pool)["get"] is theirs
    finally:
        Pool.get = before  # type: ignore[method-assign]  # as it was


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package on the path that nobody has imported yet."""
    folder = tmp_path / "watchedpackage"
    folder.mkdir()
    (folder / "__init__.py").write_text("from watchedpackage import part\nVALUE = part.VALUE\n")
    (folder / "part.py").write_text("VALUE = 7\n")
    (folder / "words.txt").write_text("hello")
    monkeypatch.syspath_prepend(tmp_path)
    yield "watchedpackage"
    for name in ("watchedpackage", "watchedpackage.part"):
        sys.modules.pop(name, None)


class Watching:
    """A watch and what it was told."""

    def __init__(self, *names: str) -> None:
        self.told: list[ModuleType] = []
        self.watch = ImportWatch(names, self.told.append)

    def __enter__(self) -> list[ModuleType]:
        self.watch.start()
        return self.told

    def __exit__(self, *_: object) -> None:
        self.watch.stop()


def test_an_import_is_told_once_it_is_whole(package: str) -> None:
    """The submodules that it imports itself are there; importing it again tells nothing."""
    with Watching(package) as told:
        module = importlib.import_module(package)
        importlib.import_module(package)
        assert told == [module]
        assert module.part.VALUE == 7


def test_an_import_statement_in_a_thread_is_told(package: str) -> None:
    """Whoever imports."""
    with Watching(package) as told:
        thread = threading.Thread(target=exec, args=(f"import {package}",))
        thread.start()
        thread.join()
        assert [one.__name__ for one in told] == [package]


def test_what_is_imported_already_is_told_at_once(package: str) -> None:
    """No second import is needed."""
    module = importlib.import_module(package)
    with Watching(package) as told:
        assert told == [module]


def test_what_another_thread_is_importing_is_told_when_it_is_whole(
    package: str, tmp_path: Path
) -> None:
    """A module half imported has no classes to hook yet."""
    begun, go_on = threading.Event(), threading.Event()
    (tmp_path / package / "part.py").write_text(
        "import sys\nsys.modules['gate'].begun.set()\nsys.modules['gate'].go_on.wait(10)\nVALUE = 7"
    )
    gate = ModuleType("gate")
    gate.begun, gate.go_on = begun, go_on  # type: ignore[attr-defined]  # a module of the test's
    sys.modules["gate"] = gate
    thread = threading.Thread(target=importlib.import_module, args=(package,))
    thread.start()
    begun.wait(10)
    threading.Timer(0.2, go_on.set).start()
    try:
        with Watching(package) as told:
            assert [one.VALUE for one in told] == [7]
    finally:
        thread.join()
        del sys.modules["gate"]


def test_a_barred_import_stays_barred(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """None in ``sys.modules`` says that it must not be imported."""
    monkeypatch.setitem(sys.modules, package, None)
    with Watching(package) as told, pytest.raises(ImportError):
        importlib.import_module(package)
    assert told == []


def test_a_failing_import_fails_as_ever_and_is_told_when_it_works(
    package: str, tmp_path: Path
) -> None:
    """The error is the module's own, and the watch goes on."""
    part = tmp_path / package / "part.py"
    part.write_text("raise ImportError('not today')\n")
    with Watching(package) as told:
        with pytest.raises(ImportError, match=r"^not today$"):
            importlib.import_module(package)
        assert told == []
        part.write_text("VALUE = 8\n")
        importlib.invalidate_caches()
        assert importlib.import_module(package).VALUE == 8
        assert len(told) == 1


def test_trouble_of_ours_does_not_break_the_import(
    package: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The program gets its module, and a warning is logged."""

    def fail(module: ModuleType) -> None:
        raise KeyError(module.__name__)

    watch = ImportWatch((package,), fail)
    watch.start()
    try:
        assert importlib.import_module(package).VALUE == 7
    finally:
        watch.stop()
    assert "watchedpackage is not recorded" in caplog.text


def test_a_module_that_is_missing_is_missing_as_ever() -> None:
    """Nobody finds it, so neither do we."""
    with Watching("nosuchmodule_"), pytest.raises(ModuleNotFoundError, match="nosuchmodule_"):
        importlib.import_module("nosuchmodule_")


def test_a_reload_is_told_again(package: str) -> None:
    """Its classes may be new."""
    with Watching(package) as told:
        module = importlib.import_module(package)
        importlib.reload(module)
        assert told == [module, module]
        assert type(module.__loader__).__name__ == "SourceFileLoader"


def test_a_module_keeps_its_loader_and_what_hangs_on_it(package: str) -> None:
    """Resources, sources and submodules are found as ever."""
    with Watching(package):
        module = importlib.import_module(package)
        assert module.__spec__ is not None
        loader = module.__spec__.loader
        assert loader is module.__loader__
        assert type(loader).__name__ == "SourceFileLoader"
        assert importlib.resources.files(module).joinpath("words.txt").read_text() == "hello"
        assert importlib.resources.files(package).joinpath("words.txt").read_text() == "hello"
        assert pkgutil.get_data(package, "words.txt") == b"hello"
        assert "VALUE" in inspect.getsource(module)
        assert [one.name for one in pkgutil.iter_modules(module.__path__)] == ["part"]


def test_a_module_that_is_only_looked_up_can_be_asked(package: str) -> None:
    """``find_spec`` imports nothing, and its loader answers as the one that it stands for."""
    with Watching(package) as told:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.loader is not None
        assert spec.loader.is_package(package)  # type: ignore[attr-defined]  # of source loaders
        assert "VALUE" in spec.loader.get_source(package)  # type: ignore[attr-defined]  # as above
        assert package not in sys.modules
        assert told == []


def test_a_lazily_loaded_module_is_told_when_it_is_loaded(package: str) -> None:
    """``LazyLoader`` executes a module with the first use of it."""
    with Watching(package) as told:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.loader is not None
        spec.loader = importlib.util.LazyLoader(spec.loader)
        module = importlib.util.module_from_spec(spec)
        sys.modules[package] = module
        spec.loader.exec_module(module)
        assert told == []
        assert module.VALUE == 7
        assert told == [module]


def test_modules_in_archives_and_frozen_ones_are_told(tmp_path: Path) -> None:
    """Whatever loads them."""
    archive = tmp_path / "modules.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("zippedmodule.py", "VALUE = 9\n")
    frozen = "__hello__"
    sys.path.insert(0, str(archive))
    try:
        with Watching("zippedmodule", frozen) as told:
            importlib.import_module("zippedmodule")
            importlib.import_module(frozen)
            assert [one.__name__ for one in told] == ["zippedmodule", frozen]
            assert type(told[0].__loader__).__name__ == "zipimporter"
    finally:
        sys.path.remove(str(archive))
        for name in ("zippedmodule", frozen):
            sys.modules.pop(name, None)


def test_two_watches_are_both_told(package: str) -> None:
    """One does not hide the module from the other."""
    with Watching(package) as first, Watching(package) as second:
        module = importlib.import_module(package)
        assert (first, second) == ([module], [module])
        assert type(module.__loader__).__name__ == "SourceFileLoader"


def test_nothing_is_told_after_the_end(package: str) -> None:
    """Not even of a module that was found before it, and is loaded after."""
    finders = tuple(sys.meta_path)
    watching = Watching(package)
    with watching:
        spec = importlib.util.find_spec(package)
        assert sys.meta_path[1:] == list(finders)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[package] = module
    spec.loader.exec_module(module)
    assert module.VALUE == 7
    assert watching.told == []
    assert tuple(sys.meta_path) == finders


def test_a_library_imported_after_the_begin_is_hooked() -> None:
    """urllib3's classes lie in submodules that its own import brings."""
    program = """
import json, sys
from pathlib import Path
from meshml_dbx.recorder import RecorderPlan, start_recording
assert "urllib3" not in sys.modules
plan = RecorderPlan(logs=Path(sys.argv[1]), client="c", process_id="p")
recording = start_recording(plan)
import urllib3
hooked = vars(urllib3.connectionpool.HTTPConnectionPool)["urlopen"]
recording.stop()
after = vars(urllib3.connectionpool.HTTPConnectionPool)["urlopen"]
print(json.dumps([hooked is not after, hooked.__wrapped__ is after, recording.warnings]))
"""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", program, f"{folder}/logs"],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert json.loads(done.stdout) == [True, True, []]
