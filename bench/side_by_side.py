"""Comparisons in one process, the two sides in turn: with the published form, and of one size with another. Part of `bench speed`."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import models
import systems
from bench import as_published, cached, cases, measure
from bench.evaluate import PIECE, Evaluator
from bench.floors import FLOORS
from bench.flops import flops
from bench.presets import PRESETS
from bench.train import Trainer
from systems import _mechanics as mechanics


def side_by_side(cache: Path) -> Iterator[dict]:
    """Comparisons in one process, the two sides in turn: what, value, unit."""

    def row(what: str, value: float, unit: str = "") -> dict:
        return {"what": what, "value": float(value), "unit": unit}

    yield from (row(*r) for r in published_step())
    yield from (row(*r) for r in seeds_at_once())
    yield from (row(*r) for r in rings())
    yield from (row(*r) for r in long_rollout(cache))
    yield from (row(*r) for r in time_to_error(cache))


def published_step() -> Iterator[tuple]:
    """The Lagrangian network's step at the published size (3 x 500, batch 32, double pendulum, Adam), in `lax.scan`, against the published form."""
    lnn, pendulum, steps = cases.with_width(models.get("lnn"), 500), systems.get("double_pendulum"), 20
    preset = replace(PRESETS["laptop"], batch=32)
    trainer = Trainer(lnn, pendulum, cases.drawn(pendulum, preset), preset)
    batch = measure.one_batch(trainer)
    learner: Any = trainer.start(0)[0]
    adam: Any = optax.adam(1e-3)

    def published(learner, batch):
        a = jax.vmap(lambda x, c: as_published.acceleration(learner.lagrangian, x[0], x[1], c))(batch.x[:, 0], batch.c)
        return jnp.abs((a - batch.rate[:, 0, 1]) / learner.rate_scale(batch.x[0])[1]).mean()

    losses = {
        "as published": published,
        "forward error": lambda learner, batch: learner.log_forward_error(batch),
        "force likelihood": lambda learner, batch: learner.force_likelihood(batch),
    }

    def step(loss, learner, state):
        gradient = jax.grad(loss)(learner, batch)
        update, state = adam.update(gradient, state, learner)
        return optax.apply_updates(learner, update), state

    def loop(loss):
        def one(carry, _):
            return step(loss, *carry), None

        return jax.jit(lambda learner, state: jax.lax.scan(one, (learner, state), None, length=steps)[0])

    loops = {name: loop(loss) for name, loss in losses.items()}
    state = adam.init(learner)
    seconds = measure.alternating({name: lambda f=f: f(learner, state) for name, f in loops.items()}, rounds=8)
    rate = measure.matmul_rate()
    forward = flops(jax.vmap(lambda x, c: learner.lagrangian(x[0], x[1], c)), batch.x[:, 0], batch.c)
    for name, loss in losses.items():
        title = f"LNN step 3 x 500, batch 32, {name}"
        passes = flops(jax.grad(lambda learner, loss=loss: loss(learner, batch)), learner) / forward
        # as compiled: what two parts of a step have in common is computed once. XLA counts right where there is no loop
        cost: Any = jax.jit(lambda learner, state, loss=loss: step(loss, learner, state)).lower(learner, state).compile().cost_analysis()
        yield title, seconds[name] / steps * 1e3, "ms"
        yield f"{title}: passes of the network", passes
        yield f"{title}: share of the machine's 512³ product", cost["flops"] * steps / seconds[name] / rate
        if name != "as published":
            yield f"{title}: times faster than as published", seconds["as published"] / seconds[name]


def seeds_at_once(count: int = 16) -> Iterator[tuple]:
    """What many seeds in one program cost, against one: what a GPU has room for, and a CPU thread has not."""
    pendulum, preset = systems.get("double_pendulum"), replace(PRESETS["laptop"], chunk=20)
    trainer = Trainer(models.get("lnn"), pendulum, cases.drawn(pendulum, preset), preset)
    one, many = trainer.chunks((0,)), trainer.chunks(tuple(range(count)))
    seconds = measure.alternating({"one": lambda: next(one)[2], "many": lambda: next(many)[2]}, rounds=5)
    yield f"training step of {count} seeds in one program, over that of one", seconds["many"] / seconds["one"], "x"


def rings() -> Iterator[tuple]:
    """How a ring's cost grows with its sites, and against the dense published form."""
    wave, lnn = systems.get("wave"), models.get("lnn")
    steps, pieces = {}, {}
    for sites in (256, 4096):
        preset = replace(PRESETS["laptop"], batch=sites, chunk=5)
        drawn = cases.drawn(wave, preset, sites)
        trainer, evaluator = Trainer(lnn, wave, drawn, preset), Evaluator(wave, drawn)
        learner: Any = trainer.start(0)[0]
        loops = trainer.chunks((0,))
        steps[str(sites)] = lambda loops=loops: next(loops)[2]
        c = drawn.evaluation.c[:1]
        at = evaluator.begin(learner, drawn.evaluation.x[:1, 0], c, stride=wave.recording.stride)
        pieces[str(sites)] = lambda f=evaluator.piece, a=(learner, at, c): f(*a, frames=PIECE, stride=wave.recording.stride)
    for what, functions in (("training step", steps), ("rollout", pieces)):
        seconds = measure.alternating(functions, rounds=5)
        yield f"ring, {what}: N = 4096 over N = 256", seconds["4096"] / seconds["256"], "x"
    x = jnp.float32(cases.drawn(wave, PRESETS["laptop"], 1024).evaluation.x[0, 0])
    none = jnp.zeros(0, jnp.float32)
    ours = jax.jit(learner.derivative)
    dense = jax.jit(lambda x: as_published.acceleration(mechanics.total(learner.lagrangian, True), x[0], x[1], none))
    apart = np.abs(np.asarray(ours(x, none)[1] - dense(x))).max() / np.abs(np.asarray(dense(x))).max()
    seconds = measure.alternating({"ours": lambda: ours(x, none), "dense": lambda: dense(x)}, rounds=2, repeats=3)
    yield "ring N = 1024, one evaluation: dense published form over ours", seconds["dense"] / seconds["ours"], "x"
    yield "ring N = 1024, one evaluation: largest difference between the two, over the largest acceleration", apart


def long_rollout(cache: Path) -> Iterator[tuple]:
    """All evaluation starts of the double pendulum over 100 s, a Lagrangian network of width 128 (its weights don't matter)."""
    preset, pendulum = PRESETS["laptop"], systems.get("double_pendulum")
    dataset = cached.load("double_pendulum", pendulum, preset, cache)
    trainer, evaluator = Trainer(cases.with_width(models.get("lnn"), 128), pendulum, dataset, preset), Evaluator(pendulum, dataset)
    learner: Any = trainer.start(0)[0]
    start, c, frames = dataset.evaluation.x[:, 0], dataset.evaluation.c, dataset.evaluation.x.shape[1] - 1
    seconds = measure.fastest(lambda: evaluator.rollout(learner, start, c, frames, pendulum.recording.stride), repeats=2)
    yield f"rollout of {len(start)} starts over {pendulum.recording.horizon:g} s, LNN of width 128", seconds, "s"
    floor, _ = evaluator(FLOORS["truth"](pendulum, dataset))
    yield "energy error of the truth under the same integrator, last frame, mean", floor["energy_error_last_mean"]


def time_to_error(cache: Path, target: float = 0.004, budgets: tuple[int, ...] = (1500, 2000, 2500, 3000, 4000, 6000)) -> Iterator[tuple]:
    """Seconds of training, without compilation, of the shortest of some schedules at whose end the median over three seeds of the LNN's energy
    error at 100 s is below a target."""
    pendulum = systems.get("double_pendulum")
    dataset = cached.load("double_pendulum", pendulum, PRESETS["laptop"], cache)
    evaluator = Evaluator(pendulum, dataset)
    for steps in budgets:
        trainer = Trainer(models.get("lnn"), pendulum, dataset, replace(PRESETS["laptop"], steps=steps))
        next(trainer.chunks((0,)))  # compiles
        seconds, errors = [], []
        for seed in PRESETS["laptop"].seeds:
            start = time.perf_counter()
            *_, (_, model, _, _) = trainer.chunks((seed,))
            seconds.append(time.perf_counter() - start)
            errors.append(evaluator(model)[0]["energy_error_last_mean"])
        if np.median(errors) <= target:
            yield (
                f"training until the LNN's energy error at 100 s is {target:.1%} (median of seeds {np.median(errors):.2%}, {steps} steps)",
                np.median(seconds),
                "s",
            )
            return
    yield f"training until the LNN's energy error at 100 s is {target:.1%}", float("inf"), "s"
