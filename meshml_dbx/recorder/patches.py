"""Replacing methods of other people's classes, and putting every one of them back.

A method that somebody replaced before us is called as we found it; one that somebody replaced
after us stays theirs, and our part of it only passes on once recording is over.
"""

import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import update_wrapper
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeGuard

Method = Callable[..., Any]
Wrap = Callable[[Method], Method]

_INHERITED = object()
_LONGEST_WAIT_S = 1.0
_logger = logging.getLogger("meshml_dbx.recorder")


@dataclass(frozen=True, slots=True)
class _Patch:
    owner: type
    name: str
    ours: Method
    before: Any
    """What the class itself held, or that it only inherited the method."""


@dataclass(slots=True)
class Patches:
    """The methods that are replaced now.

    >>> class Pool:
    ...     def get(self):
    ...         return 1
    >>> patches = Patches()
    >>> patches.replace(Pool, "get", lambda original: lambda self: original(self) + 1)
    >>> Pool().get()
    2
    >>> patches.undo()
    >>> Pool().get()
    1
    """

    _made: list[_Patch] = field(default_factory=list)

    def replace(self, owner: type, name: str, wrap: Wrap) -> None:
        """Put ``wrap(original)`` in the place of a method; done already, nothing happens."""
        if any(made.owner is owner and made.name == name for made in self._made):
            return
        original = getattr(owner, name)
        ours = wrap(original)
        with suppress(AttributeError, TypeError):  # some callables take no attributes
            update_wrapper(ours, original)
        self._made.append(_Patch(owner, name, ours, vars(owner).get(name, _INHERITED)))
        setattr(owner, name, ours)

    def undo(self) -> None:
        """Put back what was there, in reverse; where somebody replaced it since, leave theirs."""
        while self._made:
            patch = self._made.pop()
            if vars(patch.owner).get(patch.name) is not patch.ours:
                continue
            if patch.before is _INHERITED:
                delattr(patch.owner, patch.name)
            else:
                setattr(patch.owner, patch.name, patch.before)


class ImportWatch(MetaPathFinder):
    """Says when one of some modules has been imported, without importing any.

    wrapt has such hooks too, but none that can be taken away again. ``imported`` may be told of a
    module again, when it is loaded again.
    """

    def __init__(self, names: Sequence[str], imported: Callable[[ModuleType], None]) -> None:
        self._names = frozenset(names)
        self._imported = imported
        self._local = threading.local()
        self._lock = threading.RLock()
        self._is_on = False

    def start(self) -> None:
        """Look at imports from now on; what is imported already is told at once."""
        self._is_on = True
        sys.meta_path.insert(0, self)
        for name in sorted(self._names & sys.modules.keys()):
            module = _imported_now(name)
            if module is not None:
                self.tell(module)

    def stop(self) -> None:
        """Look no more; when this returns, nothing is being told and nothing will be."""
        with self._one_at_a_time():
            self._is_on = False
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def tell(self, module: ModuleType) -> None:
        """The module is there, unless nobody wants to know any more."""
        with self._one_at_a_time():
            if not self._is_on:
                return
            try:
                self._imported(module)
            except Exception:  # the program's import goes on
                _logger.warning("meshml: %s is not recorded", module.__name__, exc_info=True)

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Not for longer than imports may wait: who has it may import, and wait for us."""
        is_held = self._lock.acquire(timeout=_LONGEST_WAIT_S)
        try:
            yield
        finally:
            if is_held:
                self._lock.release()

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module as everyone else would find it, with a loader that tells us."""
        if name not in self._names or name in self._looked_for():
            return None
        self._looked_for().add(name)  # other finders may ask all finders again
        try:
            spec = self._find_elsewhere(name, path, target)
        finally:
            self._looked_for().discard(name)
        if self._is_on and spec is not None and _executes(spec.loader):
            spec.loader = _TellingLoader(spec.loader, self.tell)
        return spec

    def _looked_for(self) -> set[str]:
        """The names that this thread is finding now."""
        names: set[str] = self._local.__dict__.setdefault("names", set())
        return names

    def _find_elsewhere(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        for finder in tuple(sys.meta_path):
            find = None if finder is self else getattr(finder, "find_spec", None)
            found: ModuleSpec | None = find(name, path, target) if find else None
            if found is not None:
                return found
        return None


class _TellingLoader(Loader):
    """Loads by another loader, then says so; a module keeps its own loader.

    Asked for anything else (a package's resources, a source) it is that loader.
    """

    def __init__(self, loader: Loader, tell: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._tell = tell

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._tell(module)

    def __getattr__(self, name: str) -> Any:
        if name == "_loader":  # while it is copied or unpickled, there is none yet
            raise AttributeError(name)
        return getattr(self._loader, name)


def _executes(loader: object) -> TypeGuard[Loader]:
    """Whether it loads in the way of today; the older one has no moment at which to tell."""
    return hasattr(loader, "create_module") and hasattr(loader, "exec_module")


def _imported_now(name: str) -> ModuleType | None:
    """A module, whole: where another thread is importing it, this waits."""
    try:
        return import_module(name)
    except ImportError:  # it is barred, or its import fails just now
        return None
