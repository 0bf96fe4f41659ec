"""True physics; knows nothing of learning.

`get(name)` is the system of the file `name.py`; `names()` lists them. A row file takes all that it needs from here.
Truth is double precision: importing this package switches it on for the whole process, and models say float32 themselves. Products of
matrices keep all bits of their factors on every device.
"""

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_default_matmul_precision", "highest")  # GPUs round factors to 10 bits otherwise, and second derivatives show it

from systems import _mechanics as mechanics  # noqa: E402  (after the switch)
from systems import _rows  # noqa: E402
from systems._charts import PointTransformed, Warp  # noqa: E402
from systems._integrators import Adams  # noqa: E402
from systems._system import Chart, Context, Direction, Recording, Spec, State, System  # noqa: E402

__all__ = [
    "Adams",
    "Chart",
    "Context",
    "Direction",
    "PointTransformed",
    "Recording",
    "Spec",
    "State",
    "System",
    "Warp",
    "get",
    "mechanics",
    "names",
]


def names() -> tuple[str, ...]:
    """Names of all systems."""
    return _rows.names("systems")


def get(name: str, constants: str = "default") -> System:
    """The system of the row file `systems/<name>.py`; `constants="paper"`: as published, where that differs.

    Raises `UnknownName`, which lists the choices.
    """
    system = _rows.load("systems", name, "SYSTEM")
    return system.paper() if constants == "paper" else system
