"""Fields that came later: how a configuration may grow without renaming what was made before it grew."""

from dataclasses import field
from typing import Any


def added(default: Any, before: Any) -> Any:
    """A field of a frozen dataclass that came after results had been named; use it as `name: type = added(default, before=...)`.

    `before` is the value at which everything behaves as if there were no such field. A field at that value is left out of names and of stored
    configurations (`bench/identity.py`), and a stored configuration without it means that value, whatever the default is now.
    """
    return field(default=default, metadata={"before": before})
