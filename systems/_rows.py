"""Rows: a file without a leading underscore is a system or a model, and its name is the row's name everywhere."""

import importlib
import pkgutil


class UnknownName(ValueError):
    """A name that is not among the choices; the message lists them."""

    def __init__(self, kind: str, name: str, choices: tuple[str, ...] | list[str]):
        super().__init__(f"unknown {kind} '{name}': choose from {', '.join(choices)}")


def names(package: str) -> tuple[str, ...]:
    """Names of all rows of a package, alphabetically, found by looking at its folder (nothing is imported)."""
    folder = importlib.import_module(package).__path__
    return tuple(sorted(m.name for m in pkgutil.iter_modules(folder) if not m.name.startswith("_")))


def load(package: str, name: str, attribute: str):
    """The object called `attribute` in the row file `package/name.py`. Raises `UnknownName`."""
    if name not in names(package):
        raise UnknownName(attribute.lower(), name, names(package))
    module = importlib.import_module(f"{package}.{name}")
    if not hasattr(module, attribute):
        raise ValueError(f"{package}/{name}.py defines no {attribute}: end the file with a line `{attribute} = ...`")
    return getattr(module, attribute)
