"""Models that learn physics; know no concrete system.

`get(name)` is the class of the file `name.py`; `names()` lists them.
"""

from models._model import Batch, Model, VectorField
from models._networks import Local, Scalar, Scales, Shape
from systems import _rows

__all__ = ["Batch", "Local", "Model", "Scalar", "Scales", "Shape", "VectorField", "get", "names"]


def names() -> tuple[str, ...]:
    """Names of all models."""
    return _rows.names("models")


def get(name: str) -> type[Model]:
    """The class of the row file `models/<name>.py`. Raises `UnknownName`, which lists the choices."""
    return _rows.load("models", name, "MODEL")
