"""The clock: the only one whose readings become results. It runs in a pass of its own, in which nothing else does."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.compilation_cache import compilation_cache

from bench.evaluate import PIECE, Evaluator
from bench.flops import flops
from bench.train import Trainer, segments_per_step

STEPS = 20  # of a timed chunk: long enough to make the call itself vanish
REPEATS = 3  # of which the fastest counts: noise only ever adds


class Compiler:
    """Watches what this process compiles from now on: how many programs, and for how long [s], loading of what was compiled before included."""

    def __init__(self):
        self.programs, self.seconds = 0, 0.0
        jax.monitoring.register_event_duration_secs_listener(self._note)

    def _note(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        self.programs += event == "/jax/core/compile/jaxpr_to_mlir_module_duration"
        self.seconds += duration_secs * (event == "/jax/core/compile/backend_compile_duration")


def fastest(function, repeats: int = REPEATS) -> float:
    """Least time [s] of a call whose result is ready on the device; one call before is not counted."""
    jax.block_until_ready(function())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - start)
    return min(times)


def alternating(functions: dict[str, Callable[[], Any]], rounds: int = REPEATS, repeats: int = 1) -> dict[str, float]:
    """Least time [s] of each of several calls, made in turn (`repeats` at a turn), so that a slow spell of the machine meets them all."""
    for function in functions.values():
        jax.block_until_ready(function())
    least = dict.fromkeys(functions, float("inf"))
    for _ in range(rounds):
        for name, function in functions.items():
            for _ in range(repeats):
                start = time.perf_counter()
                jax.block_until_ready(function())
                least[name] = min(least[name], time.perf_counter() - start)
    return least


def matmul_rate() -> float:
    """Operations a second of this machine's own product of two 512 x 512 matrices in float32: what any other rate is a share of."""
    square = jnp.ones((512, 512), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    return 2 * 512**3 / fastest(lambda: product(square), repeats=20)


def compile_timed(lowered, anew: bool = True) -> tuple[Any, float]:
    """A lowered program compiled, and how long that took [s]; `anew`: without help from the cache of compiled programs."""
    _use_cache(not anew)
    try:
        start = time.perf_counter()
        compiled = lowered.compile()
        return compiled, time.perf_counter() - start
    finally:
        _use_cache(True)


def _use_cache(yes: bool) -> None:
    """JAX asks once whether there is a cache and remembers the answer: it must be made to ask again."""
    jax.config.update("jax_enable_compilation_cache", yes)
    compilation_cache.reset_cache()


def step_flops(trainer: Trainer) -> int:
    """Operations of one training step, counted from its jaxpr."""
    model, state, _ = trainer.start(0)
    batch = one_batch(trainer)

    def step(model, state):
        gradient = jax.grad(lambda model: model.loss_from(trainer.preset.signal, batch, jnp.zeros((), jnp.float32)))(model)
        return trainer.optimizer.update(gradient, state, model)

    return flops(step, model, state)


def one_batch(trainer: Trainer):
    """The first segments of the training data, as many as a step takes."""
    count = segments_per_step(trainer.training, trainer.preset, trainer.system.spec.lattice)
    return jax.tree.map(lambda a: a[:count], trainer.training)


def speed(trainer: Trainer, evaluator: Evaluator, seed: int) -> dict[str, float]:
    """What one cell costs on this machine.

    compile_seconds: tracing and compiling the training loop. steps_per_second, samples_per_second (states), train_seconds (a whole run's):
    without compilation, the mean of four places in the training, since a loss may change on the way. rollout_states_per_second: frames of all
    evaluation starts, together. flops_per_step: counted, not timed; of a loss with two branches the dearer one.
    temporary_bytes: of the compiled training loop.
    """
    preset = trainer.preset
    model, state, key = trainer.start(seed)
    length = min(STEPS, preset.steps)
    start = time.perf_counter()
    lowered = trainer.chunk.lower(model, state, key, jnp.array(0), trainer.training, length=length)
    tracing = time.perf_counter() - start
    chunk, compiling = compile_timed(lowered, anew=not preset.haste)
    carried = [model, state]

    def train(step):  # the loop gives its arguments' memory away: each call goes on from the one before
        carried[0], carried[1], losses = chunk(carried[0], carried[1], key, step, trainer.training)
        return carried, losses

    places = [jnp.array(min(preset.steps * eighth // 8, preset.steps - length)) for eighth in (1, 3, 5, 7)]
    seconds = sum(fastest(lambda place=place: train(place)) for place in places) / len(places) / length
    model, _, _ = trainer.start(seed)
    batch = one_batch(trainer)

    evaluation = evaluator.data.evaluation
    stride = evaluator.system.recording.stride
    at = evaluator.begin(model, evaluation.x[:, 0], evaluation.c, stride=stride)
    rollout = fastest(lambda: evaluator.piece(model, at, evaluation.c, frames=PIECE, stride=stride))
    return {
        "train_seconds": preset.steps * seconds,
        "compile_seconds": tracing + compiling,
        "steps_per_second": 1 / seconds,
        "samples_per_second": batch.x.shape[0] * batch.x.shape[1] / seconds,
        "rollout_states_per_second": len(evaluation.x) * PIECE / rollout,
        "flops_per_step": step_flops(trainer),
        "temporary_bytes": chunk.memory_analysis().temp_size_in_bytes,  # pyright: ignore[reportOptionalMemberAccess]
    }


def coarse(substeps: int) -> str:
    """Name of the speed of rollouts with so many steps in an evaluation frame."""
    return f"rollout_states_per_second_in_{substeps}"


def speed_with_longer_steps(floor, evaluator: Evaluator) -> dict[str, float]:
    """Frames a second of all evaluation starts together, of the true field under the models' integrator, with its own steps and with longer ones."""
    evaluation, stride = evaluator.data.evaluation, evaluator.system.recording.stride
    rates = {}
    for substeps in evaluator.substeps():
        steps = jnp.array(substeps)
        at = evaluator.begin(floor, evaluation.x[:, 0], evaluation.c, stride=stride, substeps=steps)
        seconds = fastest(lambda at=at, steps=steps: evaluator.piece(floor, at, evaluation.c, frames=PIECE, stride=stride, substeps=steps))
        rates[coarse(substeps)] = len(evaluation.x) * PIECE / seconds
    return {"rollout_states_per_second": next(iter(rates.values())), **rates}
