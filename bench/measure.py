"""The clock: the only one whose readings become results. It runs in a pass of its own, in which nothing else does."""

import time

import jax
import jax.numpy as jnp

from bench.evaluate import PIECE, Evaluator
from bench.flops import flops
from bench.train import Trainer, segments_per_step

STEPS = 20  # of a timed chunk: long enough to make the call itself vanish
REPEATS = 3  # of which the fastest counts: noise only ever adds


def fastest(function, repeats: int = REPEATS) -> float:
    """Least time [s] of a call whose result is ready on the device; one call before is not counted."""
    jax.block_until_ready(function())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - start)
    return min(times)


def speed(trainer: Trainer, evaluator: Evaluator, seed: int) -> dict[str, float]:
    """What one cell costs on this machine.

    compile_seconds: tracing and compiling the training loop. steps_per_second, samples_per_second (states), train_seconds (a whole run's):
    without compilation, the mean of three places in the training, since a loss may change on the way. rollout_states_per_second: frames of all
    evaluation starts, together. flops_per_step: counted, not timed.
    """
    preset = trainer.preset
    model, state, key = trainer.start(seed)
    length = min(STEPS, preset.steps)
    # the loop gives its arguments' memory away, so it gets copies
    copies = lambda: jax.tree.map(jnp.copy, (model, state))  # noqa: E731
    if not preset.haste:
        jax.config.update("jax_enable_compilation_cache", False)  # what is compiled now has been compiled before
    start = time.perf_counter()
    chunk = trainer.chunk.lower(  # pyright: ignore[reportFunctionMemberAccess]
        *copies(), key, jnp.array(0), trainer.training, length=length
    ).compile()
    compile_seconds = time.perf_counter() - start
    jax.config.update("jax_enable_compilation_cache", True)
    places = [jnp.array(step) for step in (0, preset.steps // 2, preset.steps - length)]
    seconds = sum(fastest(lambda place=place: chunk(*copies(), key, place, trainer.training)) for place in places) / len(places) / length
    count = segments_per_step(trainer.training, preset, trainer.system.spec.lattice)
    batch = jax.tree.map(lambda a: a[:count], trainer.training)
    samples = count * batch.x.shape[1]

    evaluation = evaluator.data.evaluation
    stride = evaluator.system.recording.stride
    x = jax.vmap(lambda x, c: evaluator.system.to_chart(x, c, model.chart))(evaluation.x[:, 0], evaluation.c)
    rollout = fastest(lambda: evaluator.piece(model, x, evaluation.c, frames=PIECE, stride=stride))

    def step(model, state):
        gradient = jax.grad(lambda model: model.loss(batch, jnp.zeros((), jnp.float32)))(model)
        return trainer.optimizer.update(gradient, state, model)

    return {
        "train_seconds": preset.steps * seconds,
        "compile_seconds": compile_seconds,
        "steps_per_second": 1 / seconds,
        "samples_per_second": samples / seconds,
        "rollout_states_per_second": len(x) * PIECE / rollout,
        "flops_per_step": flops(step, model, state),
    }
