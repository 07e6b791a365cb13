"""Look a component up by name in a table, and import it only then."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tfopt.errors import InputError


@dataclass(frozen=True, slots=True)
class Registration:
    """An entry point, by which an installed package registers a component.

    Attributes:
        group: The group that it stands in: ``tfopt.steps``.
        name: Name of the component in recipes.
        target: ``package.module:attribute``.
        package: Name of the installed package.
        version: Its version.
    """

    group: str
    name: str
    target: str
    package: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} = {self.target!r} ({self.group} of {self.package} {self.version})"

    def load(self) -> Any:
        """Import and return the component.

        Raises:
            InputError: If it cannot be imported; the message names the package.
        """
        try:
            return _imported(self.target)
        except (Exception, SystemExit) as error:
            raise InputError(
                f"The entry point {self} cannot be loaded: {type(error).__name__}: {error}. Repair "
                f"or uninstall {self.package}."
            ) from error


class Table(Mapping[str, str]):
    """Component name to ``package.module:attribute``: tfopt's own, and installed packages'.

    tfopt's own are a literal. Entry points of the group add to them; looking one up reads
    the metadata of installed packages, and imports nothing.

    Attributes:
        group: The group of entry points.
        own: tfopt's own components.
    """

    def __init__(self, group: str, own: Mapping[str, str]) -> None:
        self.group = group
        self.own = own

    def __getitem__(self, name: str) -> str:
        return self.own[name] if name in self.own else self._registered[name][0].target

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from (name for name in self._registered if name not in self.own)

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self._registered

    def registration(self, name: str) -> Registration | None:
        """Return the entry point of a component; None for one of tfopt's own.

        Raises:
            InputError: If the name means two things.
        """
        found = self._registered.get(name, ())
        if len(found) + (name in self.own) > 1:
            owners = [f"{entry.package} {entry.version}" for entry in found]
            owners += ["tfopt itself"] if name in self.own else []
            raise InputError(
                f"The name {name!r} in {self.group} is registered by {' and by '.join(owners)}, so "
                "it is not clear which is meant. Uninstall one package, or rename its entry point."
            )
        return found[0] if found else None

    @property
    def _registered(self) -> Mapping[str, list[Registration]]:
        named: dict[str, list[Registration]] = {}
        for entry in registrations():
            if entry.group == self.group:
                named.setdefault(entry.name, []).append(entry)
        return named


def registrations() -> tuple[Registration, ...]:
    """Return every entry point of a ``tfopt.`` group, of all installed packages."""
    return _registrations(tuple(sys.path))


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
        InputError: If ``name`` is not in the table, means two things there, or belongs to
            a package that cannot be imported.
    """
    if name not in table:
        known = ", ".join(sorted(table))
        raise InputError(f"No {kind} is named {name!r}.{did_you_mean(name, table)} Known: {known}.")
    registration = table.registration(name) if isinstance(table, Table) else None
    return _imported(table[name]) if registration is None else registration.load()


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


def _imported(target: str) -> Any:
    module, attribute = target.split(":")
    return getattr(importlib.import_module(module), attribute)


@lru_cache(maxsize=4)
def _registrations(search_path: tuple[str, ...]) -> tuple[Registration, ...]:
    """Read the metadata once for each search path; dotted paths of recipes change it."""
    from importlib import metadata  # takes as long as all of tfopt.config

    found = metadata.entry_points()
    return tuple(
        Registration(group, entry.name, entry.value, entry.dist.name, entry.dist.version)
        for group in sorted(found.groups)
        if group.startswith("tfopt.")
        for entry in found.select(group=group)
        if entry.dist is not None
    )
