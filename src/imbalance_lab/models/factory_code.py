"""The code behind ``model.factory``: found once, carried as text, imported from that text wherever it is needed.

A trial, its checkpoint and the logged model hold the text itself, so that neither a worker nor a server needs the
files, and another text under the same name is another model.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from imbalance_lab.errors import InputError
from imbalance_lab.signatures import check_options

KEY = "model.factory"
_SHOWN = "model code: "  # what stands before a file's name in a traceback
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_LIBRARY = __name__.partition(".")[0]


def collect_sources(factory: str, folders: Sequence[Path]) -> dict[str, str]:
    """The source files that ``factory`` needs, by their path within the folder that holds them.

    Parameters
    ----------
    factory : ``package.module:function``
    folders : looked through in order, before what Python finds; imports are followed within the folder of the module

    Returns
    -------
    Path to text; empty for a module of an installed package.

    Raises
    ------
    InputError
        If there is no such module, or a file is no Python.
    """
    module = factory.partition(":")[0]
    for folder in folders:
        if _file(folder, module) is not None:
            return reachable(folder, [module], without=_LIBRARY)
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        found = None
    if found is None or found.origin is None:
        looked = ", ".join(dict.fromkeys(str(folder.absolute()) for folder in folders))
        raise InputError(
            f"{KEY}: found {factory!r}, but no module {module!r}; looked in {looked} and among the installed packages"
        )
    origin = Path(found.origin)
    if _INSTALLED & set(origin.parts) or origin.suffix != ".py":
        return {}
    up = module.count(".") + (origin.name == "__init__.py")
    return reachable(origin.parents[up], [module], without=_LIBRARY)


def packages_of(factory: str, sources: Mapping[str, str]) -> tuple[str, ...]:
    """Packages that a logged model needs for a factory of an installed package."""
    top = factory.partition(":")[0].partition(".")[0]
    return () if sources else tuple(sorted(set(packages_distributions().get(top, ()))))


def call_factory(factory: str, sources: Mapping[str, str], facts: object, options: Mapping[str, Any]) -> Any:
    """What ``factory(facts, **options)`` returns, with its module imported from ``sources``.

    Modules of ``sources`` are taken away from Python again when it has returned: two versions of a file may serve in
    one process. They have to import what they need at their top.

    Raises
    ------
    InputError
        If the module does not import, has no such function, does not take the options, or raises.
    """
    module, _, name = factory.partition(":")
    with importable(sources):
        try:
            imported = importlib.import_module(module)
        except Exception as error:
            raise InputError(f"{KEY}: found {factory!r}, which does not import: {told(error)}") from error
        function = getattr(imported, name, None)
        if not callable(function):
            allowed = [n for n, f in vars(imported).items() if inspect.isfunction(f) and f.__module__ == module]
            there = f"it has {', '.join(allowed)}" if allowed else "it has none"
            raise InputError(f"{KEY}: found {factory!r}, but {module!r} has no function {name!r}; {there}")
        check_options(function, options, "model.options", given=1)
        try:
            return function(facts, **options)
        except Exception as error:
            raise InputError(f"{KEY}: {factory!r} raised {told(error)}") from error


def told(error: BaseException) -> str:
    """An error of a team's own code in one line, with the place in that code."""
    text = " ".join(str(error).split())[:300]
    own = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(_SHOWN)]
    at = f" ({own[-1].filename.removeprefix(_SHOWN)}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}{f': {text}' if text else ''}{at}"


@contextmanager
def importable(sources: Mapping[str, str]) -> Iterator[None]:
    """Within the block, the modules of ``sources`` come before all others of their names; afterwards they are gone."""
    finder = _Finder(sources)
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name in finder.modules}
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in finder.modules:
            sys.modules.pop(name, None)
        sys.modules.update(hidden)


class _Finder(InspectLoader, MetaPathFinder):
    """Modules whose text is at hand; ``modules`` maps a dotted name to its file, "" for a folder without a file."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = sources
        self.modules = {_dotted(file): file for file in sources}
        for name in list(self.modules):
            parts = name.split(".")
            for i in range(1, len(parts)):
                self.modules.setdefault(".".join(parts[:i]), "")

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname not in self.modules:
            return None
        return importlib.util.spec_from_loader(fullname, self, is_package=self.is_package(fullname))

    def is_package(self, fullname: str) -> bool:
        file = self.modules[fullname]
        return not file or file.endswith("__init__.py")

    def get_source(self, fullname: str) -> str:
        return self._sources.get(self.modules[fullname], "")

    def get_code(self, fullname: str) -> Any:
        return compile(self.get_source(fullname), _SHOWN + self.modules[fullname], "exec", dont_inherit=True)


def _dotted(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _file(folder: Path, module: str) -> str | None:
    """The file of a module within ``folder``, with forward slashes; None where there is none."""
    base = module.replace(".", "/")
    return next((name for name in (f"{base}.py", f"{base}/__init__.py") if (folder / name).is_file()), None)


def named_by_grammar(text: str, path: Path, package: Sequence[str]) -> Iterator[str]:
    """Dotted names that the module of ``text`` may import, of modules and of what lies in them.

    Raises
    ------
    InputError
        If it is no Python.
    """
    try:
        tree = ast.parse(text, str(path))
    except (SyntaxError, ValueError) as error:
        at = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise InputError(f"{KEY}: {path}{at}: not Python ({reason})") from None
    return _imported(tree, package)


def reachable(
    folder: Path,
    modules: Sequence[str],
    without: str = "",
    named: Callable[[str, Path, Sequence[str]], Iterable[str]] = named_by_grammar,
) -> dict[str, str]:
    """The modules, the packages that they lie in, and what they import within ``folder``, as path to text.

    ``without`` is a package that is not followed. What is imported for the types alone is left out. ``named`` gives
    the dotted names that a module imports, from its text, its path and the package that it lies in.

    Raises
    ------
    InputError
        If a file is no Python.
    """
    sources: dict[str, str] = {}
    seen, left = set[str](), [*modules]
    while left:
        parts = left.pop().split(".")
        if parts[0] == without:
            continue
        for i in range(1, len(parts) + 1):
            name = ".".join(parts[:i])
            if name in seen:
                continue
            seen.add(name)
            if (file := _file(folder, name)) is None:
                continue
            path = folder / file
            try:
                sources[file] = path.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise InputError(f"{KEY}: {path}: not Python ({error})") from None
            left += named(sources[file], path, parts[: i if file.endswith("__init__.py") else i - 1])
    return dict(sorted(sources.items()))


def _imported(tree: ast.Module, package: Sequence[str]) -> Iterator[str]:
    """Dotted names that a module may import, of modules and of what lies in them."""
    for node in _run(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            yield from (".".join([*base, *more]) for more in ([], *([a.name] for a in node.names)) if base or more)


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """The statements of a module that are run, not those behind ``if TYPE_CHECKING:``."""
    yield node
    if isinstance(node, ast.If) and ast.unparse(node.test).rpartition(".")[2] == "TYPE_CHECKING":
        parts: Iterable[ast.AST] = node.orelse
    else:
        parts = ast.iter_child_nodes(node)
    for part in parts:
        if isinstance(part, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from _run(part)
