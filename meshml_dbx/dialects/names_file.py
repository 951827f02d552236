"""The file of names: what command lines said beside the bodies of API calls.

A mapping from a body's file to the list of calls that it was sent with: ``operation``, ``meshName``
and the resource's names, and ``args``, the values of the body's jq variables. No call: nobody uses
the file.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from meshml_dbx.dialects.found import Kind
from meshml_dbx.dialects.read import read_text
from meshml_dbx.dialects.tree import Scalar, Series, Table, UnreadableError
from meshml_dbx.errors import MeshMLError

_OPERATION = re.compile(r"(create|update)-([a-z-]+)")
_KINDS: dict[str, Kind] = {
    "mesh": "mesh",
    "virtual-node": "virtualNode",
    "virtual-service": "virtualService",
    "virtual-router": "virtualRouter",
    "route": "route",
    "virtual-gateway": "virtualGateway",
    "gateway-route": "gatewayRoute",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One call that a body was sent with; ``replaces``: it was an update.

    >>> Use(kind="mesh").replaces
    False
    """

    kind: Kind | None
    replaces: bool = False
    names: Mapping[str, Scalar] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamesFile:
    """The calls of each body, by its path as the file of names writes it.

    >>> NamesFile(folder=Path("."), uses={}).uses_of("a.json") is None
    True
    """

    folder: Path
    uses: Mapping[str, tuple[Use, ...]]

    def uses_of(self, source: str) -> tuple[Use, ...] | None:
        """The calls of a file; None if the file of names does not know it.

        A path is meant from the folder of the file of names; else its end must be the same.
        """
        absolute = Path(source).absolute()
        for key, uses in self.uses.items():
            if (self.folder / key).absolute() == absolute:
                return uses
        parts = absolute.parts
        for key, uses in self.uses.items():
            wanted = PurePath(key).parts
            if parts[-len(wanted) :] == wanted:
                return uses
        return None


def read_names(path: Path) -> NamesFile:
    """The file of names at a path.

    Raises:
        MeshMLError: it cannot be read, or is no such mapping.
    """
    try:
        documents = read_text(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise MeshMLError(f"could not read the file of names {path}: {error}") from error
    except UnreadableError as error:
        raise MeshMLError(f"{path}:{error.line}: {error}") from error
    root = documents[0] if documents else None
    files = root.get("files") or root if isinstance(root, Table) else None
    if not isinstance(files, Table):
        raise MeshMLError(
            f"{path} is no file of names",
            advice='write {"vn.json": [{"operation": "create-virtual-node", "meshName": "m"}]}',
        )
    uses = {
        entry.key: tuple(_uses(entry.value))
        for entry in files.entries
        if isinstance(entry.value, Series)
    }
    return NamesFile(folder=path.absolute().parent, uses=uses)


def _uses(calls: Series) -> Iterator[Use]:
    for call in calls.items:
        if not isinstance(call, Table):
            raise MeshMLError(f"{call.place}: a call must be a mapping with its operation")
        told = {e.key: e.value for e in call.entries if isinstance(e.value, Scalar)}
        operation = (
            _OPERATION.fullmatch(str(told["operation"].value)) if "operation" in told else None
        )
        if "operation" in told and not (operation and operation[2] in _KINDS):
            raise MeshMLError(
                f"{told['operation'].place}: {told['operation'].value} makes no resource",
                advice="write create-virtual-node, update-route …",
            )
        yield Use(
            kind=_KINDS[operation[2]] if operation else None,
            replaces=bool(operation and operation[1] == "update"),
            names={key: value for key, value in told.items() if key != "operation"},
            arguments=_arguments(call.get("args")),
        )


def _arguments(args: object) -> dict[str, str]:
    if not isinstance(args, Table):
        return {}
    return {
        entry.key: text if isinstance(text := entry.value.value, str) else json.dumps(text)
        for entry in args.entries
        if isinstance(entry.value, Scalar)
    }
