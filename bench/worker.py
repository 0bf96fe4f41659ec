"""A worker process: trains, evaluates and measures cells that it is sent, and tells what it does."""

import importlib
import os
import platform
import sys
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # imported in the worker itself: JAX must not start before its threads are set
    from bench.grid import Cell

Kind = Literal["train", "evaluate", "measure", "tune"]


@dataclass(frozen=True)
class Job:
    """Work on one cell: the seeds one after the other, so that it compiles once."""

    kind: Kind
    cell: "Cell"
    seeds: tuple[int | None, ...]
    output: Path
    cache: Path


@dataclass(frozen=True)
class Event:
    """What a worker tells the grid about one run; `seed` is -1 where it speaks of the whole job."""

    what: Literal["started", "step", "evaluating", "done", "value", "finished"]
    seed: int | None = None
    step: int = 0
    value: float = 0.0  # loss of a step, criterion of a tuning trial, seconds spent compiling in a finished job
    status: str = ""


def environment(cache: Path, haste: bool) -> dict[str, str]:
    """Variables under which a worker computes with one thread, shares a GPU with others, and compiles nothing that was compiled before."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
    if haste:
        flags += " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    threads = dict.fromkeys(("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    compiled = {"JAX_COMPILATION_CACHE_DIR": str(cache.absolute() / "xla"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    # loading what another worker compiled warns, at length, of processor features that are only preferences
    compiled |= {"TF_CPP_MIN_LOG_LEVEL": "3"}
    return {**threads, **compiled, "XLA_FLAGS": flags, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def work(connection: Connection, log: Path, cache: Path, haste: bool) -> None:
    """Takes jobs from the connection until it gets None, or until the other end is gone. What libraries print goes to the log."""
    os.environ.update(environment(cache, haste))
    with log.open("a", buffering=1) as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
        from bench.measure import Compiler  # JAX starts here

        compiler, before = Compiler(), 0.0
        try:
            while (job := connection.recv()) is not None:
                try:
                    perform(job, connection.send)
                except Exception:
                    traceback.print_exc()
                    connection.send(Event("finished", -1, status=traceback.format_exc(limit=-1).strip().splitlines()[-1]))
                else:
                    connection.send(Event("finished", -1, value=compiler.seconds - before))
                before = compiler.seconds
        except (EOFError, BrokenPipeError, KeyboardInterrupt):
            pass  # the grid has ended: nobody waits for more


def alone(connection: Connection, log: Path, cache: Path, module: str, name: str) -> None:
    """Sends what a generator function yields for the arguments that it receives, then ("finished", "") or ("failed", why).

    In this environment, in a process of its own.
    """
    os.environ.update(environment(cache, haste=False))
    with log.open("a", buffering=1) as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
        try:
            for item in getattr(importlib.import_module(module), name)(*connection.recv()):
                connection.send(item)
        except Exception as error:
            traceback.print_exc()
            connection.send(("failed", f"{type(error).__name__}: {error}"))
        else:
            connection.send(("finished", ""))


def perform(job: Job, send) -> None:
    """Does one job, run by run. Each run's result is on disk before `done` is sent."""
    import jax

    from bench import data, measure, train
    from bench.evaluate import Evaluator
    from bench.floors import FLOORS

    cell = job.cell
    system = cell.get_system()
    dataset = data.load(cell.system, system, cell.preset, job.cache)
    if cell.is_floor:
        send(Event("started", None))
        result = Evaluator(system, dataset)(FLOORS[cell.model](system, dataset))
        _write(job, None, "finished", *result)
        send(Event("done", None, status="finished"))
        return
    trainer = train.Trainer(cell.get_model(), system, dataset, cell.preset)
    evaluate = Evaluator(system, dataset)
    of_job = tuple(seed for seed in job.seeds if seed is not None)
    if job.kind in ("train", "tune"):
        for seeds in cell.programs(of_job):
            for seed in seeds:
                send(Event("started", seed))
            models = trainer(seeds, lambda seed, step, loss: send(Event("step", seed, step, loss)))
            for seed, trained in zip(seeds, models, strict=True):
                if job.kind == "train":
                    send(Event("evaluating", seed))
                    _finish(job, seed, trainer, trained, evaluate)
                    if cell.preset.haste and seed == cell.preset.seeds[0]:  # beside other workers, with what is compiled already
                        _add_speed(job, seed, measure.speed(trainer, evaluate, seed))
                else:
                    send(Event("value", seed, value=evaluate.one_frame_error(trained.model, dataset.validation)))
                send(Event("done", seed, status="finished"))
    else:
        for seed in of_job:
            send(Event("started", seed))
            if job.kind == "evaluate":
                _evaluate_again(job, seed, trainer, evaluate)
            else:
                _add_speed(job, seed, measure.speed(trainer, evaluate, seed))
            send(Event("done", seed, status="finished"))
    jax.clear_caches()


def _folder(job: Job, seed) -> Path:
    from bench import grid

    return grid.folder(job.output, job.cell.run_id(seed))


def _finish(job: Job, seed, trainer, trained, evaluate) -> None:
    from bench import parameters

    parameters.save(_folder(job, seed) / "parameters", trained.model)
    metrics, curves = evaluate(trained.model)
    curves = {**{f"training_{name}": values for name, values in trained.history.items()}, **curves}
    status = "finished" if trained.diverged_at is None else "diverged"
    _write(job, seed, status, trained.metrics() | metrics, curves, trainer, trained.diverged_at)


def _evaluate_again(job: Job, seed, trainer, evaluate) -> None:
    from bench import parameters, results, train

    where = _folder(job, seed)
    old = results.read(where)
    like = train.initial(trainer.model, trainer.system.spec, trainer.values, trainer.scales, seed)
    metrics, curves = evaluate(parameters.restore(where / results.PARAMETERS, like))
    kept = {name: old["metrics"][name] for name in ("train_loss", "validation_loss", "parameters")}
    before = {name: values for name, values in results.curves(where, old).items() if name.startswith("training_")}
    _write(job, seed, old["status"], kept | metrics, {**before, **curves}, trainer, old["diverged_at_step"], old["speed"])


def _add_speed(job: Job, seed, speed: dict) -> None:
    from bench import results

    where = _folder(job, seed)
    result = results.read(where)
    results.write(where, {**result, "speed": speed})


def _write(job: Job, seed, status, metrics, curves, trainer=None, diverged_at=None, speed=None) -> None:
    from dataclasses import asdict

    from bench import identity, results

    cell = job.cell
    configuration = cell.configuration()
    result = {
        "run": cell.run_id(seed),
        "system": cell.system,
        "model": cell.model,
        "seed": seed,
        "status": status,
        "diverged_at_step": diverged_at,
        "configuration": {name: value if isinstance(value, dict) else asdict(value) for name, value in configuration.items()},
        "configuration_hash": identity.digest(identity.canonical(configuration)),
        "scales": None if trainer is None else asdict(trainer.scales),
        "metrics": metrics,
        "speed": speed or {},
        "provenance": provenance() | {"execution": cell.execution} | {"training_code": cell.training_code, "evaluation_code": cell.evaluation_code},
    }
    results.write(_folder(job, seed), result, curves)


def provenance() -> dict:
    """Where and with what a result was made."""
    import jax

    from bench import identity

    changes = identity.git("status", "--porcelain", "--untracked-files=no")
    return {
        "commit": identity.git("rev-parse", "HEAD"),
        "dirty": None if changes is None else bool(changes),
        "versions": identity.versions(),
        "device": jax.devices()[0].device_kind,
        "platform": f"{platform.system()} {platform.machine()}",
        "training_dtype": "float32",
        "truth_dtype": "float64",
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
