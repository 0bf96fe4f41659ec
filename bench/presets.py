"""Presets: what a grid of runs is. One frozen dataclass is the command line, the configuration and the stored provenance."""

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

import models
import systems
from models import Model, Signal
from systems._configuration import added
from systems._rows import UnknownName

Values = Literal["default", "paper"]
LARGEST = 2**31 - 1  # whole number: steps and seeds are counted in 32 bits
# fields that span the grid, belong to the execution mode (haste), or guard a run without changing its numbers
OF_THE_GRID = ("systems", "models", "seeds", "haste", "checkpoint_seconds", "time_limit", "memory_limit")


class Unlearnable(UnknownName):
    """A signal that a model cannot be trained on; the message says what to type."""

    def __init__(self, model: str, signal: str, choices: tuple[str, ...]):
        ValueError.__init__(
            self, f"signal is {signal}: {model} is trained on {' or '.join(choices)} alone; give one of these, or leave {model} out of --models"
        )


def require_signal(model: str, signal: str) -> None:
    """Raises `Unlearnable` for a row of the folder models/ that has no loss of this signal."""
    if signal not in (choices := models.get(model).signals):
        raise Unlearnable(model, signal, choices)


@dataclass(frozen=True)
class Preset:
    """What is trained on what, and how. The same for every model; what a model decides for itself stands in its own file."""

    systems: tuple[str, ...] = ("double_pendulum", "relativistic_particle", "wave")
    """rows of the folder systems/"""
    models: tuple[str, ...] = ("mlp", "neural_ode", "second_order_ode", "hnn", "hnn_naive", "delan", "lnn")
    """rows of the folder models/"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """one run each: first weights and order of the data"""

    steps: int = 6000
    """optimiser steps of a run"""
    batch: int = 128
    """states a step; a ring of 16 sites counts 16"""
    segment: int = 4
    """successive frames that a model trained on rollouts sees"""
    signal: Signal = added("own", before="own")
    """what models learn from: each its own, true derivatives, or frames alone, through the solver"""
    chunk: int = 250
    """steps between two looks at the loss (progress, NaN), in one compiled loop"""
    optimizer: Literal["soap", "muon", "adam"] = "soap"
    """SOAP (bench/soap.py), or of optax"""
    schedule: Literal["cosine", "trapezoidal"] = added("cosine", before="cosine")
    """learning rate after its warm-up: a cosine to 0, or constant and linear to 0 over the last 35 %"""
    warmup: int = 1000
    """steps of linear warm-up"""
    learning_rate: float | None = None
    """for every model; None: each model's own, tuned one"""

    constants: Values = "default"
    """of the systems: each file's own, or those of the paper"""
    hyperparameters: str = "default"
    """of the models: each file's `settings`, its `paper`, or one of its `variants`"""
    sampling: Literal["trajectories", "states", "fresh"] = "trajectories"
    """training data: long true trajectories; independent states; or these drawn anew every step, as published (for a model that learns from frames
    both are segments that start at such states, drawn once)"""
    data_seed: int = 0
    """of training, validation, test and evaluation data"""
    data_share: float = 1.0
    """of the number of training trajectories that a system asks for"""
    horizon_share: float = 1.0
    """of the duration of evaluation trajectories that a system asks for"""
    haste: bool = False
    """compile with little optimisation, and measure beside other workers what is compiled already: for numbers that mean nothing"""

    checkpoint_seconds: float = 30.0
    """between two checkpoints of a training, at the end of a chunk; 0: after every chunk"""
    time_limit: float | None = 3600.0
    """s that a run, or the making of its data, may take before its processes are ended; None: no limit"""
    memory_limit: float | None = 8.0
    """GiB that the processes of a run may hold before they are ended; None: no limit"""

    def __post_init__(self):
        for name, hint in get_type_hints(Preset).items():
            if get_origin(hint) is Literal and getattr(self, name) not in get_args(hint):
                raise UnknownName(name, getattr(self, name), get_args(hint))
        for name in self.systems:
            if name not in systems.names():
                raise UnknownName("system", name, systems.names())
        for name in self.models:
            if name not in models.names():
                raise UnknownName("model", name, models.names())
            models.get(name).settings_called(self.hyperparameters)
            require_signal(name, self.signal)
        for name in ("systems", "models", "seeds"):
            values = getattr(self, name)
            if not values:
                raise ValueError(f"{name}: give at least one")
            if len(set(values)) < len(values):
                raise ValueError(f"{name}: each only once, not {' '.join(map(str, values))}")
        for name, least, why in (
            *((name, 1, "") for name in ("steps", "batch", "chunk")),
            ("segment", 2, ", since a step map learns from pairs of frames"),
            ("warmup", 0, ""),
            ("data_seed", 0, ""),
        ):
            self._require(name, least <= getattr(self, name) <= LARGEST, f"a whole number from {least} to {LARGEST}{why}")
        self._require("seeds", all(0 <= seed <= LARGEST for seed in self.seeds), f"whole numbers from 0 to {LARGEST}")
        for name in ("data_share", "horizon_share"):
            self._require(name, 0 < getattr(self, name) <= 1, "a share above 0, up to 1")
        rate = self.learning_rate
        self._require("learning_rate", rate is None or 0 < rate < float("inf"), "a positive number, or None")
        self._require("checkpoint_seconds", 0 <= self.checkpoint_seconds < float("inf"), "seconds from 0")
        for name, unit in (("time_limit", "seconds"), ("memory_limit", "GiB")):
            limit = getattr(self, name)
            self._require(name, limit is None or 0 < limit < float("inf"), f"{unit} above 0, or None")

    def _require(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise ValueError(f"{name} is {getattr(self, name)}: give {wanted}")

    def settings(self, model: type[Model]):
        """The hyper-parameters of a model under this preset."""
        return model.settings_called(self.hyperparameters)

    def of_a_run(self) -> dict:
        """The fields that the numbers of a single run depend on."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in OF_THE_GRID}


PRESETS = {
    # every code path of the grid in a few minutes; its numbers mean nothing
    "smoke": Preset(seeds=(0,), steps=100, chunk=20, warmup=20, data_share=0.02, horizon_share=0.05, haste=True),
    "laptop": Preset(),
    # sizes, samples and first weights as published: 3e8 samples in batches of 32, Adam from 1e-3. For a GPU.
    "paper": Preset(
        steps=9_400_000,
        batch=32,
        chunk=20_000,
        optimizer="adam",
        warmup=0,
        constants="paper",
        hyperparameters="paper",
        sampling="fresh",
        time_limit=None,
        memory_limit=None,
    ),
}


def filled(stored: dict[str, Any]) -> dict[str, Any]:
    """Fields of a stored preset, of a run or of a grid; one that came later has the value that was meant before it came."""
    before = {f.name: f.metadata.get("before", f.default) for f in fields(Preset)}
    return before | {name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()}


def preset(name: str) -> Preset:
    """The preset of that name. Raises `UnknownName`."""
    if name not in PRESETS:
        raise UnknownName("preset", name, tuple(PRESETS))
    return PRESETS[name]
