"""Begins a recording in every Python that ``meshml record`` starts: its folder is on their path.

Python imports one ``sitecustomize`` at each start. This one hands over to the one that it hides,
if there is any, and then records; whatever fails, the program goes on. A program that a recorded
one started is recorded from its first import of ``http.client``, with which every HTTP library
begins: most such programs call nothing, and would wait for nothing.
"""

import os
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType

TYPE_CHECKING = False  # importing these would double what a program waits for
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader, MetaPathFinder
else:
    Loader = MetaPathFinder = object

_FIRST = "http.client"


def _run_hidden() -> None:
    """The sitecustomize that would have been imported without us."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120  # at every start of Python
    sys.path[:] = [path for path in sys.path if os.path.abspath(path or ".") != here]  # noqa: PTH100  # as above
    ours = sys.modules.pop("sitecustomize", None)
    try:
        spec = find_spec("sitecustomize")
        if spec is not None and spec.loader is not None:
            module = module_from_spec(spec)
            sys.modules["sitecustomize"] = module
            spec.loader.exec_module(module)
    finally:
        if ours is not None:  # Python looks for what it has just imported
            sys.modules.setdefault("sitecustomize", ours)


def _record() -> None:
    try:
        from meshml_dbx.in_process import record_program

        record_program(os.environ)
    except Exception as error:  # the program is the user's, and goes on
        is_missing = isinstance(error, ImportError) and error.name == "meshml_dbx"
        reason = "this Python has no meshml_dbx" if is_missing else type(error).__name__
        print(f"meshml: not recorded: {reason}", file=sys.stderr)  # noqa: T201  # logging is not set up yet


class _FirstImport(MetaPathFinder):
    """Records once the first HTTP library is imported; finds nothing itself."""

    def find_spec(
        self,
        name: str,
        path: "Sequence[str] | None" = None,  # noqa: ARG002  # as everybody asks
        target: ModuleType | None = None,  # noqa: ARG002  # as above
    ) -> ModuleSpec | None:
        if name != _FIRST or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _RecordingLoader(spec.loader)
        return spec


class _RecordingLoader(Loader):
    """Loads as another loader does, then records; the module keeps its own loader."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        package, _, name = _FIRST.rpartition(".")
        setattr(sys.modules[package], name, module)  # as is done next, but after us
        _record()


def _is_meshml() -> bool:
    """Whether this is our own command: what it asks an Envoy or MLflow is no program's call."""
    first = sys.argv[0] if sys.argv else ""
    if first == "-m":
        return "meshml_dbx" in sys.orig_argv[1 : sys.orig_argv.index("-m") + 2]
    return os.path.basename(first) == "meshml"  # noqa: PTH119  # as above


def _begin() -> None:
    if not os.environ.get("MESHML_RECORD") or _is_meshml():
        return
    if os.environ.get("MESHML_SIDECAR_ID") and _FIRST not in sys.modules:
        sys.meta_path.insert(0, _FirstImport())
    else:
        _record()


try:
    _run_hidden()
finally:
    _begin()
