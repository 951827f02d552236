"""The HTTP libraries that are recorded: how each is hooked, and which versions were tried.

One that is imported later is hooked as soon as it is; one that is never imported is not touched.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from types import ModuleType

from meshml_dbx.recorder.aiohttp_hooks import hook_aiohttp
from meshml_dbx.recorder.http_client_hooks import hook_http_client
from meshml_dbx.recorder.httpx_hooks import hook_httpx
from meshml_dbx.recorder.patches import ImportWatch, Patches
from meshml_dbx.recorder.recorder import Recorder
from meshml_dbx.recorder.urllib3_hooks import hook_urllib3

Hook = Callable[[ModuleType, Patches, Recorder], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A library, its hook, and the versions that were tried: from one up to, without, another."""

    hook: Hook
    tested_from: tuple[int, ...]
    tested_to: tuple[int, ...]


LIBRARIES: dict[str, Library] = {
    "urllib3": Library(hook=hook_urllib3, tested_from=(1, 26), tested_to=(3,)),
    "httpx": Library(hook=hook_httpx, tested_from=(0, 24), tested_to=(0, 29)),
    "aiohttp": Library(hook=hook_aiohttp, tested_from=(3, 8), tested_to=(3, 15)),
}


class Hooks:
    """The hooks of one recording: put in, and taken out again completely."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._patches = Patches()
        self._watch = ImportWatch(tuple(LIBRARIES), self._imported)
        self.hooked: dict[str, str] = {}
        self.unhooked: dict[str, str] = {}
        """Library → why its calls are not recorded, or may be recorded in part only."""

    def put_in(self) -> None:
        """Hook what is imported, and watch for the rest."""
        hook_http_client(self._patches, self._recorder)
        self.hooked["http.client"] = ""
        self._watch.start()

    def take_out(self) -> None:
        """Leave every library as it was."""
        self._watch.stop()
        self._patches.undo()

    def _imported(self, module: ModuleType) -> None:
        name, library = module.__name__, LIBRARIES[module.__name__]
        version = version_of(name)
        try:
            library.hook(module, self._patches, self._recorder)
        except Exception as error:  # a library of another shape: record the rest
            self.unhooked[name] = f"{name} {version} is not recorded: {type(error).__name__}"
            self._recorder.warn(self.unhooked[name], error)
            return
        self.hooked[name] = version
        if not library.tested_from <= numbers_of(version) < library.tested_to:
            self.unhooked[name] = (
                f"{name} {version} was not tested ({range_of_versions(library)} was): "
                "its calls may be recorded in part"
            )


def version_of(name: str) -> str:
    """The version of an installed distribution, empty when nobody knows.

    >>> version_of("no-such-distribution")
    ''
    """
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def numbers_of(version: str) -> tuple[int, ...]:
    """The leading numbers of a version.

    >>> numbers_of("2.0.7rc1"), numbers_of("")
    ((2, 0), ())
    """
    found: list[int] = []
    for part in version.split("."):
        if not part.isdigit():
            break
        found.append(int(part))
    return tuple(found)


def range_of_versions(library: Library) -> str:
    """The versions that were tried, as a requirement says it.

    >>> range_of_versions(LIBRARIES["urllib3"])
    '>=1.26,<3'
    """
    first, last = (".".join(map(str, one)) for one in (library.tested_from, library.tested_to))
    return f">={first},<{last}"
