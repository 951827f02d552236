"""Replacing methods of other people's classes, and putting every one of them back.

A method that somebody replaced before us is called as we found it; one that somebody replaced
after us stays theirs, and our part of it only passes on once recording is over.
"""

import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import update_wrapper
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

Method = Callable[..., Any]
Wrap = Callable[[Method], Method]


@dataclass(frozen=True, slots=True)
class _Patch:
    owner: type
    name: str
    ours: Method
    before: Any
    """What the class itself held; None where it only inherited the method."""


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
        """Put ``wrap(original)`` in the place of a method."""
        original = getattr(owner, name)
        ours = wrap(original)
        with suppress(AttributeError, TypeError):  # some callables take no attributes
            update_wrapper(ours, original)
        self._made.append(_Patch(owner, name, ours, vars(owner).get(name)))
        setattr(owner, name, ours)

    def undo(self) -> None:
        """Put back what was there, in reverse; where somebody replaced it since, leave theirs."""
        while self._made:
            patch = self._made.pop()
            if vars(patch.owner).get(patch.name) is not patch.ours:
                continue
            if patch.before is None:
                delattr(patch.owner, patch.name)
            else:
                setattr(patch.owner, patch.name, patch.before)


class ImportWatch(MetaPathFinder):
    """Says when one of some modules has been imported, without importing any.

    wrapt has such hooks too, but none that can be taken away again.
    """

    def __init__(self, names: Sequence[str], imported: Callable[[ModuleType], None]) -> None:
        self._names = frozenset(names)
        self._imported = imported
        self._local = threading.local()

    def start(self) -> None:
        """Look at imports from now on; what is imported already is told at once."""
        sys.meta_path.insert(0, self)
        for name in sorted(self._names & sys.modules.keys()):
            self._imported(sys.modules[name])

    def stop(self) -> None:
        """Look no more."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module as everyone else would find it, with a loader that tells us."""
        if name not in self._names or getattr(self._local, "is_looking", False):
            return None
        self._local.is_looking = True  # other finders may ask all finders again
        try:
            spec = self._find_elsewhere(name, path, target)
        finally:
            self._local.is_looking = False
        if spec is not None and spec.loader is not None:
            spec.loader = _TellingLoader(spec.loader, self._imported)
        return spec

    def _find_elsewhere(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        for finder in tuple(sys.meta_path):
            find = None if finder is self else getattr(finder, "find_spec", None)
            found = find(name, path, target) if find else None
            if isinstance(found, ModuleSpec):
                return found
        return None


class _TellingLoader(Loader):
    """Loads by another loader, then says so; a module keeps its own loader."""

    def __init__(self, loader: Loader, imported: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._imported = imported

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._imported(module)
