"""Look a component up by name in a literal table, and import it only then."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from tfopt.errors import InputError


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the nearest known name, or an empty string.

    Example:
        >>> did_you_mean("sparsty", ["sparsity", "epochs"])
        " Did you mean 'sparsity'?"
        >>> did_you_mean("zzz", ["sparsity"])
        ''
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    if not near and len(name) > 2:
        near = [other for other in names if other.startswith(name)]
    return f" Did you mean {near[0]!r}?" if near else ""


def resolve(table: Mapping[str, str], kind: str, name: str) -> Any:
    """Import and return the component that ``table`` lists as ``name``.

    Args:
        table: Component name to ``package.module:attribute``.
        kind: What the table holds, for the message: ``"data source"``.
        name: The name to look up.

    Returns:
        The imported attribute.

    Raises:
        InputError: If ``name`` is not in the table.
    """
    if name not in table:
        known = ", ".join(sorted(table))
        raise InputError(f"No {kind} is named {name!r}.{did_you_mean(name, table)} Known: {known}.")
    module, attribute = table[name].split(":")
    return getattr(importlib.import_module(module), attribute)


def import_dotted(path: str, kind: str) -> Any:
    """Import ``package.module:attribute`` given by the user.

    The current directory is searched first, as ``python -m`` would, so that a script
    beside the recipe is found; it stays on the search path, but last, for what the script
    imports later.

    Args:
        path: The dotted path, with one colon before the attribute.
        kind: What is wanted, for the message: ``"model builder"``.

    Returns:
        The imported attribute.

    Raises:
        InputError: If the path has no colon, the module cannot be imported or fails
            while it is, or it has no such attribute.
    """
    module_name, colon, attribute = path.partition(":")
    if not (colon and module_name and attribute):
        raise InputError(
            f"The {kind} {path!r} is not a dotted path. Write it as 'package.module:function'."
        )
    try:
        module = _import_from_here(module_name)
    except ImportError as error:
        raise InputError(
            f"The {kind} {path!r} cannot be imported: {error}. The module must be "
            "installed, or lie in the current directory."
        ) from error
    except (Exception, SystemExit) as error:
        raise InputError(
            f"The {kind} {path!r} cannot be imported, because its module fails: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not hasattr(module, attribute):
        near = did_you_mean(attribute, dir(module))
        raise InputError(f"The {kind} {path!r}: module {module_name!r} has no {attribute!r}.{near}")
    return getattr(module, attribute)


def _import_from_here(module_name: str) -> Any:
    import os
    import sys

    here = os.getcwd()
    is_known = here in sys.path
    sys.path.insert(0, here)
    try:
        return importlib.import_module(module_name)
    finally:
        sys.path.remove(here)
        if not is_known:
            sys.path.append(here)
