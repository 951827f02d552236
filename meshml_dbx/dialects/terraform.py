"""Terraform: ``aws_appmesh_*`` resources, from HCL and from ``terraform show -json``.

Files of one folder are one module, as Terraform has it. Variables take their values from
``--param``, from files of values and from their defaults; a module block whose folder is part of
the input is read with its arguments. Blocks of other kinds only lend the values that are written in
them, such as the name of a Cloud Map namespace.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from posixpath import normpath

from meshml_dbx.dialects.found import Account, Parameters, Resource
from meshml_dbx.dialects.hcl import templated
from meshml_dbx.dialects.hcl_known import is_unknown
from meshml_dbx.dialects.terraform_fields import Fields
from meshml_dbx.dialects.terraform_module import Block, Module, Values, blocks_of
from meshml_dbx.dialects.terraform_resources import KINDS, Resources
from meshml_dbx.dialects.terraform_show import is_shown, read_shown
from meshml_dbx.dialects.tree import (
    Node,
    Scalar,
    Series,
    Table,
    UnreadableError,
    scalars,
    sources_of,
)

_DEEPEST = 16  # modules in modules
_SILENT = {"locals", "variable", "output"}  # named when nothing of the mesh uses them
_ALWAYS = ("terraform.tfvars", "terraform.tfvars.json", ".auto.tfvars", ".auto.tfvars.json")


def read_terraform(
    trees: Sequence[Table], account: Account, parameters: Parameters
) -> tuple[Resource, ...]:
    """The App Mesh resources of Terraform's files, folder by folder."""
    found: list[Resource] = []
    folders: dict[str, list[Table]] = {}
    values: list[Table] = []
    for tree in trees:
        if is_shown(tree):
            found += read_shown(tree, account, parameters)
        elif tree.place.source.endswith((".tfvars", ".tfvars.json")):
            values.append(tree)
        else:
            written = _written(tree, account)
            folders.setdefault(_folder(tree), []).extend([written] if written else [])
    reader = _Folders(folders=folders, account=account, parameters=parameters)
    found += reader.read(values)
    return tuple(found)


def _written(tree: Table, account: Account) -> Table | None:
    """A file's tree with the templates of Terraform's JSON as expressions."""
    if not tree.place.source.endswith(".json"):
        return tree
    try:
        found = templated(tree)
    except UnreadableError as error:
        account.leave("terraform-template", tree, f"line {error.line}: {error}")
        return None
    return found if isinstance(found, Table) else None


def _folder(tree: Table) -> str:
    return normpath(PurePosixPath(tree.place.source.replace("\\", "/")).parent.as_posix())


@dataclass(slots=True, kw_only=True)
class _Folders:
    """The modules of the input: a folder that no module block names is a root."""

    folders: Mapping[str, Sequence[Table]]
    account: Account
    parameters: Parameters
    named: set[str] = field(default_factory=set)

    def read(self, values: Sequence[Table]) -> list[Resource]:
        """The resources of every root module and of the modules in it."""
        blocks = {folder: tuple(blocks_of(trees)) for folder, trees in self.folders.items()}
        called = {
            target
            for folder, found in blocks.items()
            for block in found
            if (target := _target(folder, block)) in blocks and target != folder
        }
        roots = [folder for folder in blocks if folder not in called] or list(blocks)
        fields = Fields(account=self.account, parameters=self.parameters)
        made = Resources(fields=fields)
        chosen = self._values(values)
        found_resources: list[Resource] = []
        modules: list[Module] = []
        for folder in roots:
            module = Module(
                blocks=blocks[folder],
                account=self.account,
                parameters=self.parameters,
                values=Values(arguments=self._arguments(chosen, folder)),
            )
            self._call(module, folder, blocks, 0)
            modules.append(module)
            found_resources += self._resources(module, made)
        made.report()
        for module in modules:
            self._unused(module)
        self._report_values(chosen)
        return found_resources

    # --- values -------------------------------------------------------------------------------

    def _values(self, values: Sequence[Table]) -> list[Table]:
        """The files of values that count, the strongest last."""
        always = [it for it in values if it.place.source.endswith(_ALWAYS)]
        named = [it for it in values if it not in always]
        if len(named) > 1:
            names = ", ".join(PurePosixPath(it.place.source).name for it in named)
            for it in named:
                what = f"one of several files of values, none of which is used: {names}"
                self.account.leave("terraform-values", it, what)
            named = []
        plain_first = sorted(always, key=lambda it: ".auto." in it.place.source)
        return [*plain_first, *named]

    def _arguments(self, values: Sequence[Table], folder: str) -> dict[str, Node]:
        own = [it for it in values if _folder(it) == folder or _folder(it) not in self.folders]
        return {entry.key: entry.value for it in own for entry in it.entries}

    def _report_values(self, values: Sequence[Table]) -> None:
        for it in values:
            others = [entry for entry in it.entries if not self._is_used(entry.value)]
            if others:
                names = ", ".join(entry.key for entry in others)
                what = f"no App Mesh resource uses these values: {names}"
                self.account.report("terraform-unused", it.place, what)
                self.account.use(*(entry.value for entry in others))

    def _is_used(self, node: Node) -> bool:
        """Values are settled whole, so any scalar tells; an empty one needs no finding."""
        first = next(scalars(node), None)
        return first is None or all(self.account.is_settled(it) for it in sources_of(first))

    # --- modules ------------------------------------------------------------------------------

    def _call(
        self, module: Module, folder: str, blocks: Mapping[str, tuple[Block, ...]], depth: int
    ) -> None:
        """Make the modules that a module calls, as far as their folders are part of the input."""
        for block in module.blocks:
            if block.kind != "module":
                continue
            target = _target(folder, block)
            if target is None or target not in blocks or depth > _DEEPEST:
                self._leave_module(block)
                continue
            self.account.use(block.body)
            arguments = {entry.key: entry.value for entry in block.body.entries}
            for copy in module.copies(block):
                child = Module(
                    blocks=blocks[target],
                    account=self.account,
                    parameters=self.parameters,
                    values=Values(arguments=arguments, scope=module.scope(copy.names)),
                )
                module.children[".".join(block.name), copy.key] = child
                self._call(child, target, blocks, depth + 1)

    def _leave_module(self, block: Block) -> None:
        source = block.body.get("source")
        shown = source.value if isinstance(source, Scalar) else "unknown"
        what = f"{block.address} is not read: its source, {shown}, is not part of the input"
        self.account.leave("terraform-module", block.body, what)

    # --- resources ----------------------------------------------------------------------------

    def _resources(self, module: Module, made: Resources) -> Iterator[Resource]:
        for block in module.blocks:
            if block.kind == "resource" and set(block.name[:1]) & KINDS.keys():
                yield from self._copies(module, block, made)
            elif block.kind not in _SILENT | {"module"}:
                what = f"{block.address} is no App Mesh resource"
                self.account.leave("terraform-left", block.body, what)
        for child in module.children.values():
            yield from self._resources(child, made)

    def _copies(self, module: Module, block: Block, made: Resources) -> Iterator[Resource]:
        copies = module.copies(block)
        if not copies:
            what = f"{block.address} is not created: its count or for_each has nothing in it"
            self.account.leave("terraform-not-created", block.body, what)
        for copy in copies:
            values = module.body(block.body, copy.names, top=True)
            self._warn_of_zero(values)
            yield made.resource(block.name[0], block.body.place, values)

    def _warn_of_zero(self, values: Table) -> None:
        """A priority of 0 is the first of all to App Mesh, but to the provider it is none."""
        for spec in _tables(values.get("spec")):
            priority = spec.get("priority")
            if isinstance(priority, Scalar) and priority.value == 0 and not is_unknown(priority):
                what = "Terraform's AWS provider sends no priority of 0: the route ran as the last"
                self.account.report("terraform-zero", priority.place, what)

    def _unused(self, module: Module) -> None:
        """Name the variables, locals and outputs that the mesh has nothing of, file by file."""
        found: dict[str, list[tuple[str, Node]]] = {}
        for block in module.blocks:
            if block.kind == "locals":
                for entry in block.body.entries:
                    found.setdefault(entry.place.source, []).append(
                        (f"local.{entry.key}", entry.value)
                    )
            elif block.kind in _SILENT:
                name = ".".join(("var", *block.name)) if block.kind == "variable" else block.address
                found.setdefault(block.body.place.source, []).append((name, block.body))
        for nodes in found.values():
            others = [(name, node) for name, node in nodes if not self._is_used(node)]
            if others:
                names = ", ".join(name for name, _ in others)
                what = f"no App Mesh resource uses these: {names}"
                self.account.report("terraform-unused", others[0][1].place, what)
                self.account.use(*(node for _, node in others))
        for place in (it for it, has_made in module.dynamics.items() if not has_made):
            what = "a dynamic block makes nothing: its for_each has nothing in it"
            self.account.report("terraform-not-created", place, what)
        for child in module.children.values():
            self._unused(child)


def _target(folder: str, block: Block) -> str | None:
    """The folder that a module block names, if it is one of this machine."""
    source = block.body.get("source") if block.kind == "module" else None
    if not isinstance(source, Scalar) or not str(source.value).startswith(("./", "../")):
        return None
    return normpath(f"{folder}/{source.value}")


def _tables(node: Node | None) -> list[Table]:
    items = node.items if isinstance(node, Series) else (node,)
    return [it for it in items if isinstance(it, Table)]
