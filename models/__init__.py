"""Models that learn physics; know no concrete system.

`get(name)` is the class of the file `name.py`; `names()` lists them. A row file takes all that it needs from here and from `systems`.
"""

from models._lagrangian import LagrangianModel, half_square
from models._likelihood import force_likelihood
from models._model import Batch, EnergySettings, Model, Settings, Signal, VectorField, either
from models._networks import EnergyTerms, Local, Scalar, Scales, Shape
from systems import _rows

__all__ = [
    "Batch",
    "EnergySettings",
    "EnergyTerms",
    "LagrangianModel",
    "Local",
    "Model",
    "Scalar",
    "Scales",
    "Settings",
    "Shape",
    "Signal",
    "VectorField",
    "either",
    "force_likelihood",
    "get",
    "half_square",
    "names",
]


def names() -> tuple[str, ...]:
    """Names of all models."""
    return _rows.names("models")


def get(name: str) -> type[Model]:
    """The class of the row file `models/<name>.py`. Raises `UnknownName`, which lists the choices."""
    return _rows.load("models", name, "MODEL")
