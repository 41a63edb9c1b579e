"""What an entry's code can reach of the world, read from its source: so that its account may do that and no more.

Followed are names, from the entry's own function on: through the functions, classes and tables of `dumont` that it
names, those that they name, and so on. That errs on the side of too much (a branch never taken counts), never on the
side of too little, except through objects that are handed over; all of those are made at the composition root, which
is where the walk ends.
"""

from __future__ import annotations

import ast
import enum
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dumont.build.declarations import Entry, FunctionDeclaration

WORKFLOWS = ("dumont.operations.workflows", "WORKFLOWS")
TOPICS = ("dumont.operations.runner", "TOPICS")
_ENDS_AT = ("dumont.adapters", "dumont.agent", "dumont.edge.wiring", "dumont.ports", "dumont.optional_ports")

Name = tuple[str, str]
"""A module, and what it holds."""


class Need(enum.StrEnum):
    """What of the world a function may use."""

    READ = "read"
    """Records."""
    WRITE = "write"
    PUBLISH = "publish"
    """To workers' topics."""
    SCHEDULE = "schedule"
    """Pause and resume the sweeps."""
    DNS = "dns"
    MARKET = "market"
    SHELL = "shell"
    BLOBS = "blobs"
    DATA_KEYS = "data_keys"
    """What snapshots are encrypted with."""
    TOKENS = "tokens"
    """What agents' and callers' tokens, and webhooks' signatures, are made and checked with."""


_ATTRIBUTES = {
    "store": Need.READ,
    "transact": Need.WRITE,
    "bus": Need.PUBLISH,
    "make_schedule": Need.SCHEDULE,
    "make_dns": Need.DNS,
    "providers": Need.MARKET,
    "make_shell": Need.SHELL,
    "tunnels": Need.SHELL,
    "make_blobs": Need.BLOBS,
    "agent_secret": Need.TOKENS,
    "token_secret": Need.TOKENS,
    "data_key": Need.DATA_KEYS,
    "subscription_secret": Need.TOKENS,
}
"""The names by which code takes hold of a port (`dumont.ports.Ports`), or of what the composition root makes."""


@dataclass
class _Source:
    """One module: what it defines, and what its names stand for."""

    definitions: dict[str, ast.stmt] = field(default_factory=dict)
    imports: dict[str, Name] = field(default_factory=dict)


@dataclass(frozen=True)
class _Facts:
    """Of one definition: the ports that it takes hold of, and what it names of ours."""

    needs: frozenset[Need]
    names: frozenset[Name]


def needs(declaration: FunctionDeclaration, entry: Entry) -> frozenset[Need]:
    """What one entry may use."""
    main = _read((declaration.folder / "main.py").read_text(encoding="utf-8"))
    first = _facts(main, "main", main.definitions[entry.target])
    found = set(first.needs)
    waiting, seen = list(first.names), set(first.names)
    while waiting:
        name = waiting.pop()
        facts = _facts_of_table(entry.topic) if name == WORKFLOWS and entry.topic else _facts_of(name)
        found |= facts.needs
        waiting += facts.names - seen
        seen |= facts.names
    return frozenset(found | ({Need.READ} if Need.WRITE in found else set()))


@functools.cache
def _facts_of(name: Name) -> _Facts:
    source = _module(name[0])
    return _facts(source, name[0], source.definitions[name[1]])


@functools.cache
def _facts_of_table(topic: str) -> _Facts:
    module, inner = WORKFLOWS
    source = _module(module)
    return _facts(source, module, _of_topic(source.definitions[inner], topic))


def _facts(source: _Source, module: str, node: ast.AST) -> _Facts:
    attributes = {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
    return _Facts(
        needs=frozenset(need for attribute, need in _ATTRIBUTES.items() if attribute in attributes),
        names=frozenset(_named(source, module, node)),
    )


def _of_topic(table: ast.AST, topic: str) -> ast.AST:
    """Of the table of workflows the part that a topic's worker is sent: its messages name no other operations."""
    kinds = _kinds_of_topic(topic)
    value = table.value if isinstance(table, ast.AnnAssign | ast.Assign) else None
    if not isinstance(value, ast.Dict):
        raise TypeError("WORKFLOWS is not the plain table that it was")
    chosen = [(k, v) for k, v in zip(value.keys, value.values, strict=True) if k and ast.unparse(k) in kinds]
    return ast.Dict(keys=[k for k, _ in chosen], values=[v for _, v in chosen])


@functools.cache
def _kinds_of_topic(topic: str) -> frozenset[str]:
    table = _module(TOPICS[0]).definitions[TOPICS[1]]
    value = table.value if isinstance(table, ast.AnnAssign | ast.Assign) else None
    if not isinstance(value, ast.Dict):
        raise TypeError("TOPICS is not the plain table that it was")
    return frozenset(
        ast.unparse(kind)
        for kind, its_topic in zip(value.keys, value.values, strict=True)
        if kind and isinstance(its_topic, ast.Constant) and its_topic.value == topic
    )


def _named(source: _Source, module: str, node: ast.AST) -> Iterator[Name]:
    """What a definition names, resolved to where it is defined."""
    local = {**source.imports, **_imports(node)}
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            if part.id in source.definitions:
                if module != "main":
                    yield module, part.id
            elif part.id in local:
                yield from _resolved(local[part.id])
        elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id in local:
            package, inner = local[part.value.id]
            yield from _resolved((f"{package}.{inner}", part.attr))


def _resolved(name: Name) -> Iterator[Name]:
    """Where a name is defined: an import may only pass it on."""
    module, inner = name
    if not module.startswith("dumont") or _file(module) is None:
        return
    if module.startswith(_ENDS_AT):
        return
    source = _module(module)
    if inner in source.definitions:
        yield name
    elif inner in source.imports:
        yield from _resolved(source.imports[inner])


@functools.cache
def _module(module: str) -> _Source:
    file = _file(module)
    return _Source() if file is None else _read(file.read_text(encoding="utf-8"))


def _file(module: str) -> Path | None:
    base = Path(__file__).parents[2].joinpath(*module.split("."))
    return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)


def _read(text: str) -> _Source:
    source = _Source()
    for statement in ast.parse(text).body:
        match statement:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                source.definitions[name] = statement
            case ast.Assign(targets=targets):
                source.definitions |= {t.id: statement for t in targets if isinstance(t, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                source.definitions[name] = statement
            case _:
                source.imports |= _imports(statement)
    return source


def _imports(node: ast.AST) -> dict[str, Name]:
    """Local name → the module and the name in it, of every import within."""
    found: dict[str, Name] = {}
    for part in ast.walk(node):
        if isinstance(part, ast.ImportFrom) and not part.level and part.module:
            found |= {alias.asname or alias.name: (part.module, alias.name) for alias in part.names}
        elif isinstance(part, ast.Import):
            for alias in part.names:
                before, _, last = alias.name.rpartition(".")
                if alias.asname:
                    found[alias.asname] = (before, last)
    return found
