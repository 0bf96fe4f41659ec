"""What the speed of is watched: a training step and a rollout of every model on every system, and the operators of mechanics.

A case needs no data set: its states are drawn, its call goes the way that `bench run` goes. `python -m bench.cases` times cases on demand, one
request a line on standard input, one JSON answer a line; the gate (`bench/gate.py`) sets two of them, from two commits, side by side.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import models
import systems
from bench import grid, measure
from bench.data import DataSet, Evaluation, Split
from bench.evaluate import PIECE, Evaluator
from bench.flops import equations, flops
from bench.presets import PRESETS, Preset
from bench.train import Trainer, parameters
from models import Model, Scalar, Scales, Shape
from systems import _mechanics as mechanics
from systems._system import Spec, System

SEGMENTS = 1024  # of drawn training data
CHUNK = 20  # steps of a timed chunk
LATE = 0.9  # of a training
STATES = 256  # on which an operator is timed
OPERATORS = {"euler_lagrange, 1 dof": 1, "euler_lagrange, 2 dof": 2, "euler_lagrange, 3 dof": 3, "euler_lagrange, 5 dof": 5}
RING = "euler_lagrange, ring of 1024"
COMPILER = measure.Compiler()


@dataclass(frozen=True)
class Case:
    """Something to time, and what of it can be counted exactly."""

    call: Callable[[], Any]  # ready on the device when it returns, compiled by its first call
    figures: dict[str, int]


def names() -> tuple[str, ...]:
    """Names of all cases of the rows that `make bench` takes."""
    rows = [(cell.system, cell.model) for cell in grid.cells(PRESETS["laptop"]) if not cell.is_floor]
    training, rollouts = ([f"{kind}, {model} on {system}" for system, model in rows] for kind in ("training", "rollout"))
    return (*training, *rollouts, *OPERATORS, RING)


def build(name: str) -> Case:
    """The case of a name. Raises `UnknownName`, which lists the choices."""
    if name not in names():
        raise systems._rows.UnknownName("benchmark", name, names())
    if name in OPERATORS:
        return _operator(OPERATORS[name])
    if name == RING:
        return _operator(1024, lattice=True)
    kind, _, rest = name.partition(", ")
    model, _, system = rest.partition(" on ")
    return (_training if kind == "training" else _rollout)(system, model)


def drawn(system: System, preset: Preset, sites: int | None = None) -> DataSet:
    """Independent states in place of trajectories: what a cell costs doesn't depend on where they come from. `sites`: of the ring."""
    segments = SEGMENTS if sites is None else max(8, SEGMENTS // sites)
    count = segments * preset.segment

    def states(key):
        x, c = system.sample_state(key)
        return x, system.field(x, c), c

    x, rate, c = jax.jit(jax.vmap(states))(jax.random.split(jax.random.key(0), count))
    starts = jnp.arange(system.recording.starts)
    start, context = jax.jit(jax.vmap(system.sample_evaluation))(jax.random.split(jax.random.key(1), len(starts)), starts)

    def on_ring(a):
        return np.resize(a, (*a.shape[:-1], sites)) if sites else np.asarray(a)

    x, rate = (on_ring(a).reshape(segments, preset.segment, 2, -1) for a in (x, rate))
    split = Split(x, rate, np.asarray(c)[:: preset.segment])
    return DataSet(split, split, split, Evaluation(on_ring(start)[:, None], np.asarray(context), np.zeros(len(start))))


def with_width(model: type[Model], width: int) -> type[Model]:
    """The same model with another width, on a ring too."""
    shape = replace(model.settings.shape, width=width, ring_width=width)
    return type(model.__name__, (model,), {"__doc__": model.__doc__, "settings": replace(model.settings, shape=shape)})


@cache
def _cell(system: str, model: str) -> tuple[Trainer, Evaluator]:
    physics, preset = systems.get(system), replace(PRESETS["laptop"], chunk=CHUNK)
    data = drawn(physics, preset)
    return Trainer(models.get(model), physics, data, preset), Evaluator(physics, data)


def _training(system: str, model: str) -> Case:
    trainer, _ = _cell(system, model)

    def chunks() -> Iterator:
        while True:  # a benchmark may ask for more steps than a training has
            yield from trainer.chunks((0,))

    running, late, length = chunks(), np.int32(round(LATE * trainer.preset.steps)), np.int32(CHUNK)
    learner, state, key = trainer.start(0)
    arguments = learner, state, key, np.int32(0), trainer.training, length
    ending = [learner, state]

    def both():
        """A chunk from the beginning of a training, as `bench run` makes it, and one from its end, where a loss may be another."""
        ending[0], ending[1], losses = trainer.chunk(ending[0], ending[1], key, late, trainer.training, length)
        return jax.block_until_ready((next(running), ending, losses))

    return Case(
        both,
        {
            **_counted(trainer.chunk, trainer.chunk.lower(*arguments), arguments),
            "parameters": parameters(learner),
            "programs_of_more_seeds": _programs_of_more_seeds(trainer),
        },
    )


def _programs_of_more_seeds(trainer: Trainer) -> int:
    """Programs that two more seeds compile when one has been trained: none, as they are the same programs."""
    next(trainer.chunks((0,)))
    before = COMPILER.programs
    if before == 0:
        raise RuntimeError("jax no longer tells when it compiles: mend bench.measure.Compiler")
    for seed in (1, 2):
        next(trainer.chunks((seed,)))
    return COMPILER.programs - before


def _rollout(system: str, model: str) -> Case:
    trainer, evaluator = _cell(system, model)
    learner, _, _ = trainer.start(0)
    start, c = evaluator.data.evaluation.x[:, 0], evaluator.data.evaluation.c
    stride = evaluator.system.recording.stride
    arguments = learner, evaluator.begin(learner, start, c, stride=stride), c
    piece = partial(evaluator.piece, frames=PIECE, stride=stride)
    return Case(
        lambda: jax.block_until_ready(piece(*arguments)), _counted(piece, evaluator.piece.lower(*arguments, frames=PIECE, stride=stride), arguments)
    )


def _counted(function, lowered, arguments) -> dict[str, int]:
    """What can be counted of a program: exactly, from its jaxpr, and as compiled."""
    memory = lowered.compile().memory_analysis()
    return {
        "flops": flops(function, *arguments),
        "equations": equations(jax.make_jaxpr(function)(*arguments)),
        "temporary_bytes": 0 if memory is None else memory.temp_size_in_bytes,
    }


def _operator(n: int, lattice: bool = False) -> Case:
    """Accelerations of a perceptron's Lagrangian, and the gradient of their squares by all weights."""
    dof, states = (1, 1) if lattice else (n, STATES)
    ones = (1.0,) * dof
    network = Scalar(Spec(dof, lattice=lattice), Scales(ones, ones, ones, (), 1.0), Shape(), rngs=nnx.Rngs(params=0))
    q, v = jax.random.normal(jax.random.key(0), (2, states, n), jnp.float32)

    def squares(network, q, v):
        def lagrangian(q, v, c):
            return network(q, v, c) + 0.5 * (v[1] ** 2 if lattice else v @ v)

        a = jax.vmap(lambda q, v: mechanics.euler_lagrange(lagrangian, q, v, jnp.zeros(0, q.dtype), lattice=lattice))(q, v)
        return (a**2).mean()

    gradient = jax.jit(jax.value_and_grad(squares))
    return Case(lambda: jax.block_until_ready(gradient(network, q, v)), _counted(gradient, gradient.lower(network, q, v), (network, q, v)))


def serve() -> None:
    """Answers lines: "names", "build NAME", which makes a case ready, "time NAME", with the least time [s] of a few calls."""
    ready: dict[str, Case] = {}
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")  # what a library prints goes elsewhere
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        command, _, name = line.rstrip("\n").partition(" ")
        if command == "names":
            print(json.dumps({"names": names()}), file=answers, flush=True)
            continue
        try:
            if name not in ready:
                ready[name] = build(name)
                ready[name].call()
            answer = {"seconds": measure.fastest(ready[name].call) if command == "time" else 0.0}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve()
