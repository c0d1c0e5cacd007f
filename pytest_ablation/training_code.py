"""The code that a run depends on, read as source and never executed.

A training function goes in; a digest of the definitions it can reach inside the project, the
versions of the libraries these import, and the names they mention come out. Comments, docstrings
and formatting do not count, and neither does the rest of the module that the function lives in, so
that adding a variant below it does not throw away finished runs; modules that it imports count
whole.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib.metadata
import importlib.util
import inspect
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_ablation.digests import digest

#: Libraries whose version counts even where the project only reaches them through another one.
ALWAYS_RELEVANT = ("numpy", "torch")
_OWN_PACKAGE = __name__.partition(".")[0]
_MOST_VALUES = 10_000  # carried by a function; with more, its content is not looked through


@dataclass(frozen=True)
class TrainingCode:
    """``libraries`` maps distribution to version; ``mentioned`` are names the code reads.

    ``is_stable`` is false where the function carries something whose content cannot be known (an
    open file, say), so that its results must not be reused by another session.
    """

    digest: str
    libraries: dict[str, str]
    mentioned: frozenset[str]
    is_stable: bool = True


def training_code(*roots: Any) -> TrainingCode:
    """The code and values that calling *roots* (functions, classes, callable objects) depends on.

    What a function carries along counts too: arguments bound by ``functools.partial``, variables of
    the function around it (a decorator's, say), and the attributes of an object that is called. A
    function without source (typed at a prompt) is digested by its bytecode.
    """
    carried = _Carried()
    for root in roots:
        carried.add(root)
    content, mentioned, libraries = [], set(), set()
    for function in carried.functions:
        path = _source_file(function)
        if path is None:
            code = getattr(function, "__code__", None)
            content.append([code.co_code, repr(code.co_consts), code.co_names] if code else None)
        elif _in_library(path):
            libraries.add(function.__module__.partition(".")[0])
        else:
            project, imported = _reachable(path, function)
            libraries |= imported
            content.append([[n, [ast.dump(node) for node in project[n]]] for n in sorted(project)])
            mentioned |= {name for nodes in project.values() for node in nodes
                          for name in _reads(node)}  # fmt: skip
    return TrainingCode(
        digest=digest([carried.values, content]),
        libraries=_versions(libraries),
        mentioned=frozenset(mentioned),
        is_stable=carried.is_stable,
    )


class _Carried:
    """The functions and classes, and the values, that an object brings along."""

    def __init__(self) -> None:
        self.functions: list[Any] = []
        self.values: list[str] = []
        self.is_stable = True
        # id to (number, object); the object is kept alive, so that no id is used twice
        self._seen: dict[int, tuple[int, Any]] = {}

    def add(self, value: Any) -> None:
        if value is None or isinstance(value, (bool, int, float, str, bytes)):
            self.values.append(digest(value))
            return
        if id(value) in self._seen:
            self.values.append(f"again {self._seen[id(value)][0]}")
            return
        self._seen[id(value)] = len(self._seen), value
        if len(self._seen) > _MOST_VALUES:
            self.is_stable = False
        else:
            self._take(value)

    def _take(self, value: Any) -> None:
        if isinstance(value, functools.partial):
            self._add_all([value.func, value.args, value.keywords])
        elif inspect.ismethod(value):
            self._add_all([value.__func__, value.__self__])
        elif inspect.isfunction(value):
            self.functions.append(value)
            cells = [_cell_contents(cell) for cell in value.__closure__ or ()]
            self._add_all([*cells, getattr(value, "__wrapped__", None)])
        elif inspect.isclass(value):
            self.functions.append(value)
        elif inspect.isroutine(value) or inspect.ismodule(value):
            self.values.append(value.__name__)
        elif isinstance(value, (list, tuple)):
            self.values.append(f"list of {len(value)}")
            self._add_all(value)
        elif isinstance(value, Mapping):
            self.values.append(f"mapping of {len(value)}")
            self._add_all([part for item in value.items() for part in item])
        else:
            self._take_object(value)

    def _take_object(self, value: Any) -> None:
        try:
            self.values.append(digest(value))
        except TypeError:
            self.functions.append(type(value))
            if hasattr(value, "__dict__") and _source_file(type(value)) is not None:
                self.add(vars(value))
            else:  # its state lies where Python cannot look
                self.is_stable = False

    def _add_all(self, values: Iterable[Any]) -> None:
        for value in values:
            self.add(value)


def _cell_contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a variable that has not been assigned yet
        return None


def _source_file(function: Any) -> Path | None:
    try:
        path = inspect.getsourcefile(function)
    except TypeError:
        return None
    return Path(path) if path is not None and Path(path).is_file() else None


def _reachable(path: Path, function: Any) -> tuple[dict[str, list[ast.AST]], set[str]]:
    """Module name to its statements that count, and the top-level names of outside libraries."""
    home = function.__module__
    top_name = function.__qualname__.partition(".")[0]
    project: dict[str, list[ast.AST]] = {home: _definitions(_parsed(path), top_name)}
    libraries: set[str] = set()
    queue = list(_imports(project[home], home, path))
    while queue:
        name = queue.pop()
        if name in project or name.partition(".")[0] == _OWN_PACKAGE:
            continue
        module_path = _project_file(name)
        if module_path is not None:
            project[name] = [_parsed(module_path)]
            queue += _imports(project[name], name, module_path)
        elif _top_level_location(name.partition(".")[0]) is None:
            libraries.add(name.partition(".")[0])
    return project, libraries


def _parsed(path: Path) -> ast.Module:
    return _parse(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=512)
def _parse(path: Path, _modified: int) -> ast.Module:
    return _WithoutDocstrings().visit(ast.parse(path.read_bytes(), filename=str(path)))


class _WithoutDocstrings(ast.NodeTransformer):
    def _strip(self, node: Any) -> Any:
        self.generic_visit(node)
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return node

    visit_Module = visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = _strip


def _definitions(tree: ast.Module, name: str) -> list[ast.AST]:
    """The top-level statements that *name* depends on, and those that bind no name at all."""
    binders: dict[str, list[ast.stmt]] = {}
    loose: list[ast.stmt] = []
    for statement in tree.body:
        names = set(_bound_names(statement))
        for bound in names:
            binders.setdefault(bound, []).append(statement)
        if not names:
            loose.append(statement)
    wanted, seen = [name, *_names_in(loose)], set()
    kept: set[int] = {id(statement) for statement in loose}
    while wanted:
        current = wanted.pop()
        if current in seen:
            continue
        seen.add(current)
        for statement in binders.get(current, []):
            kept.add(id(statement))
            wanted += _names_in([statement])
    return [statement for statement in tree.body if id(statement) in kept]


def _bound_names(statement: ast.stmt) -> Iterator[str]:
    """The names by which *statement* can be needed; none where it always counts.

    A star import binds names that only running it would tell, and a compound statement (``try``,
    ``if`` ...) may bind what its condition decides: both always count.
    """
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield statement.name
    elif isinstance(statement, (ast.Import, ast.ImportFrom)):
        names = [alias.asname or alias.name for alias in statement.names]
        yield from (name.partition(".")[0] for name in names if name != "*")
    elif isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id


def _names_in(statements: list[ast.stmt]) -> list[str]:
    return [n.id for s in statements for n in ast.walk(s) if isinstance(n, ast.Name)]


def _imports(nodes: list[ast.AST], module: str, path: Path) -> Iterator[str]:
    """Dotted names of all modules that the nodes may import, with their parent packages."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in (inner for top in nodes for inner in ast.walk(top)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            found = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in found:
            parts = name.split(".")
            yield from (".".join(parts[: n + 1]) for n in range(len(parts)))


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    parents = parts[: len(parts) - node.level + 1]
    return ".".join([*parents, *([node.module] if node.module else [])])


def _project_file(name: str) -> Path | None:
    """The source file of a module of the project; None for libraries and for plain names."""
    top, *rest = name.split(".")
    location = _top_level_location(top)
    if location is None:
        return None
    if not rest:
        return location if location.is_file() else None
    if location.name != "__init__.py":
        return None
    base = location.parent.joinpath(*rest)
    candidates = (base / "__init__.py", base.with_name(base.name + ".py"))
    return next((path for path in candidates if path.is_file()), None)


def _top_level_location(top: str) -> Path | None:
    """The file of a top-level module or package of the project; None for libraries.

    A package without ``__init__.py`` is located by the file that it could have.
    """
    if not top or top in sys.builtin_module_names or top in sys.stdlib_module_names:
        return None
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.origin is None and spec.submodule_search_locations:
        path = Path(next(iter(spec.submodule_search_locations))).resolve() / "__init__.py"
    elif spec.origin is not None and spec.origin.endswith(".py"):
        path = Path(spec.origin).resolve()
    else:
        return None
    return None if _in_library(path) else path


def _in_library(path: Path) -> bool:
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    return bool(installed) or any(path.is_relative_to(folder) for folder in _library_folders())


@functools.cache
def _library_folders() -> tuple[Path, ...]:
    names = ("purelib", "platlib", "stdlib", "platstdlib")
    return tuple({Path(sysconfig.get_path(name)).resolve() for name in names})


def _versions(modules: set[str]) -> dict[str, str]:
    """Versions of the distributions that provide these modules, and of ``ALWAYS_RELEVANT``."""
    others = modules - sys.stdlib_module_names
    names = {d for module in others for d in _distributions_of(module)} | set(ALWAYS_RELEVANT)
    versions = {}
    for name in sorted(names):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _distributions_of(module: str) -> Sequence[str]:
    """The distributions that provide a module: most often the one that is called as it is."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        namesake = importlib.metadata.distribution(module)
        if f"\n{module}/__init__.py," in f"\n{namesake.read_text('RECORD')}":
            return [namesake.metadata["Name"]]
    return _distributions_by_module().get(module, ())


@functools.cache  # it reads the file list of every installed distribution
def _distributions_by_module() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def _reads(node: ast.AST) -> Iterator[str]:
    """Names that the code may read a configuration field by: attributes, keys and variables."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Load):
            yield inner.attr
        elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load):
            yield inner.id
        elif isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value
