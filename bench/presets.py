"""Presets: what a grid of runs is. One frozen dataclass is the command line, the configuration and the stored provenance."""

from dataclasses import dataclass, fields
from typing import Literal

import models
import systems
from models import Model
from systems._rows import UnknownName

Values = Literal["default", "paper"]


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
    chunk: int = 250
    """steps between two looks at the loss (progress, NaN), in one compiled loop"""
    optimizer: Literal["muon", "adam"] = "muon"
    """of optax; learning rate: linear warm-up, then cosine to 0"""
    warmup: int = 200
    """steps of linear warm-up"""
    learning_rate: float | None = None
    """for every model; None: each model's own, tuned one"""

    constants: Values = "default"
    """of the systems: each file's SYSTEM, or its PAPER"""
    hyperparameters: Values = "default"
    """of the models: each file's `settings`, or its `paper`, which takes states as they are instead of in units of their spread"""
    sampling: Literal["trajectories", "states"] = "trajectories"
    """training data: long true trajectories, or as published segments that start at independent states"""
    data_seed: int = 0
    """of training, validation, test and evaluation data"""
    data_share: float = 1.0
    """of the number of training trajectories that a system asks for"""
    horizon_share: float = 1.0
    """of the duration of evaluation trajectories that a system asks for"""
    haste: bool = False
    """compile with little optimisation, and measure beside other workers what is compiled already: for numbers that mean nothing"""

    def __post_init__(self):
        for name in self.systems:
            if name not in systems.names():
                raise UnknownName("system", name, systems.names())
        for name in self.models:
            if name not in models.names():
                raise UnknownName("model", name, models.names())
        for name in ("systems", "models", "seeds"):
            values = getattr(self, name)
            if not values:
                raise ValueError(f"{name}: give at least one")
            if len(set(values)) < len(values):
                raise ValueError(f"{name}: each only once, not {' '.join(map(str, values))}")
        for name in ("steps", "batch", "chunk"):
            self._require(name, getattr(self, name) >= 1, "a whole number from 1")
        self._require("segment", self.segment >= 2, "a whole number from 2, since a step map learns from pairs of frames")
        self._require("warmup", self.warmup >= 0, "a whole number from 0")
        self._require("seeds", min(self.seeds) >= 0, "whole numbers from 0")
        self._require("data_seed", self.data_seed >= 0, "a whole number from 0")
        for name in ("data_share", "horizon_share"):
            self._require(name, 0 < getattr(self, name) <= 1, "a share above 0, up to 1")
        rate = self.learning_rate
        self._require("learning_rate", rate is None or 0 < rate < float("inf"), "a positive number, or None")

    def _require(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise ValueError(f"{name} is {getattr(self, name)}: give {wanted}")

    def settings(self, model: type[Model]):
        """The hyper-parameters of a model under this preset."""
        return model.paper if self.hyperparameters == "paper" else model.settings

    def of_a_run(self) -> dict:
        """The fields that a single run depends on: all but the lists that span the grid, and haste, which is part of the execution mode."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("systems", "models", "seeds", "haste")}


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
        sampling="states",
    ),
}


def preset(name: str) -> Preset:
    """The preset of that name. Raises `UnknownName`."""
    if name not in PRESETS:
        raise UnknownName("preset", name, tuple(PRESETS))
    return PRESETS[name]
