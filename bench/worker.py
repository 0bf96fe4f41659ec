"""A worker process: trains, evaluates and measures cells that it is sent, and tells what it does."""

import importlib
import os
import shutil
import signal
import sys
import threading
import traceback
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bench import locks, provenance, sealed

if TYPE_CHECKING:  # imported in the worker itself: JAX must not start before its threads are set
    from bench.evaluate import Evaluator
    from bench.grid import Cell

Kind = Literal["run", "measure", "tune"]  # run: what is missing of training and evaluation
NO_SPACE = "no space left"  # status of a job that ended since the disk is full
REFUSED = "refused"  # status of runs that were not begun, since what would run is not what was named
PATIENCE = 10.0  # s, for which a run's folder may be locked by a process that is about to end
ENDING = threading.Event()  # this process was asked to end
KEPT = 10  # systems whose data a process keeps
MOTION = ("prediction_time", "prediction")  # curves of a motion to be looked at


@dataclass(frozen=True)
class Job:
    """Work on one cell: the seeds one after the other, so that it compiles once."""

    kind: Kind
    cell: "Cell"
    seeds: tuple[int | None, ...]
    output: Path
    cache: Path
    attempt: int = 1  # of the first of the seeds

    def __post_init__(self):
        with suppress(OSError):  # there is no such row: the worker says so
            _ = self.cell.rows, self.cell.files  # the process that names runs looks at their code, and sends with the cell what it saw


@dataclass(frozen=True)
class Event:
    """What a worker tells the grid about one run; `seed` is -1 where it speaks of the whole job."""

    what: Literal["started", "step", "evaluating", "done", "value", "note", "waiting", "finished"]
    seed: int | None = None
    step: int = 0
    value: float = 0.0  # loss of a step, criterion of a tuning trial, seconds spent compiling in a finished job
    status: str = ""  # of a run that is done, one of those of a result; of a finished job what went wrong
    why: str = ""  # of a run that is lost; the text of a note


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


def _begin(log: Path, cache: Path, haste: bool) -> None:
    """Makes this process a worker: its environment, its log, and an end of its own with all its children should the grid die."""
    os.environ.update(environment(cache, haste))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the grid, which then ends its workers
    signal.signal(signal.SIGTERM, lambda *_: ENDING.set())
    if hasattr(os, "setsid"):
        os.setsid()  # a process group of its own
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with log.open("a", buffering=1) as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())


def _end_with_parent() -> None:
    if (parent := parent_process()) is not None:
        wait([parent.sentinel])
        if hasattr(os, "killpg"):
            os.killpg(0, signal.SIGKILL)
        os._exit(1)


def work(connection: Connection, log: Path, cache: Path, haste: bool) -> None:
    """Takes jobs from the connection until it gets None, or until the other end is gone. What libraries print goes to the log."""
    _begin(log, cache, haste)
    from bench.checkpoints import Interrupted  # JAX starts here
    from bench.grid import Changed
    from bench.measure import Compiler

    compiler, before = Compiler(), 0.0
    with suppress(BrokenPipeError, ConnectionResetError):  # the grid has ended: nobody waits for more
        while (job := _next(connection)) is not None:
            try:
                perform(job, connection.send)
            except Interrupted:
                return
            except Changed as error:
                connection.send(Event("finished", -1, status=REFUSED, why=str(error)))
            except Exception as error:
                what = NO_SPACE if sealed.is_full(error) else traceback.format_exc(limit=-1).strip().splitlines()[-1]
                with suppress(OSError):  # where the disk is full, the log is too
                    traceback.print_exc()
                connection.send(Event("finished", -1, status=what))  # last: who hears of it may end this process
            else:
                connection.send(Event("finished", -1, value=compiler.seconds - before))
            before = compiler.seconds


def _next(connection: Connection) -> Job | None:
    """The next job; None if there is none, or if the grid has ended."""
    try:
        return connection.recv()
    except (EOFError, OSError):
        return None


def alone(connection: Connection, log: Path, cache: Path, module: str, name: str) -> None:
    """Sends what a generator function yields for the arguments that it receives, then ("finished", "") or ("failed", why).

    In this environment, in a process of its own.
    """
    _begin(log, cache, haste=False)
    try:
        for item in getattr(importlib.import_module(module), name)(*connection.recv()):
            connection.send(item)
    except Exception as error:
        with suppress(OSError):
            traceback.print_exc()
        connection.send(("failed", f"{type(error).__name__}: {error}"))  # last: who hears of it ends this process
    else:
        connection.send(("finished", ""))


def perform(job: Job, send) -> None:
    """Does one job, run by run. Each run's result is on disk before `done` is sent. Raises `Changed`, with nothing done."""
    import jax

    from bench import measure, parts, train
    from bench.data import TRAJECTORIES
    from bench.floors import FLOORS

    job.cell.refuse_changed()
    cell, evaluate = job.cell, _evaluator(job, send)
    system, dataset = evaluate.system, evaluate.data
    if cell.is_floor:
        send(Event("started", None))
        floor = FLOORS[cell.model](system, dataset)
        with locks.held(_folder(job, None), PATIENCE):
            if job.kind == "run":
                metrics, curves, made = parts.completed(_folder(job, None), cell, evaluate, floor)
                _write(job, None, "finished", metrics, curves, made or provenance.of(provenance.clock()))
            if cell.shown(None) and (job.kind == "measure" or cell.preset.haste):
                _add_speed(job, None, measure.speed_with_longer_steps(floor, evaluate))
        send(Event("done", None, status="finished"))
        return
    trainer = train.Trainer(cell.get_model(), system, dataset, cell.preset)
    of_job = tuple(seed for seed in job.seeds if seed is not None)
    if job.kind == "measure":
        for seed in of_job:
            send(Event("started", seed))
            _add_speed(job, seed, measure.speed(trainer, evaluate, seed))
            send(Event("done", seed, status="finished"))
    elif job.kind == "tune":
        for seed in of_job:
            send(Event("started", seed))
            (trained,) = trainer((seed,), lambda seed, step, loss: send(Event("step", seed, step, loss)))
            validation = dataset.validation if cell.preset.sampling == TRAJECTORIES else dataset.validation.starts(2)
            send(Event("value", seed, value=evaluate.one_frame_error(trained.model, validation)))
            send(Event("done", seed, status="finished"))
    else:
        for seeds in cell.programs(of_job):
            _run(job, seeds, trainer, evaluate, send)
    jax.clear_caches()


_evaluators: dict[tuple[Path, str], "Evaluator"] = {}


def _evaluator(job: Job, send) -> "Evaluator":
    """What measures models on a job's system, with its data; kept for the jobs to come, since what it knows of the truth took a while to compute."""
    from bench import cached
    from bench.evaluate import Evaluator

    system = job.cell.get_system()
    key = job.cache, cached.key(job.cell.system, system, job.cell.preset)
    if key not in _evaluators:
        if len(_evaluators) == KEPT:
            del _evaluators[next(iter(_evaluators))]
        tell, wait = (lambda line: send(Event("note", -1, why=line))), (lambda: send(Event("waiting", -1)))
        _evaluators[key] = Evaluator(system, cached.load(job.cell.system, system, job.cell.preset, job.cache, tell, wait))
    return _evaluators[key]


def _run(job: Job, seeds: tuple[int, ...], trainer, evaluate, send) -> None:
    """Trains and evaluates runs that share a program, as far as neither was done before."""
    from bench import checkpoints, measure, results

    preset, clock = job.cell.preset, provenance.clock()
    with ExitStack() as stack:
        for seed in seeds:
            stack.enter_context(locks.held(_folder(job, seed), PATIENCE))
            sealed.sweep(_folder(job, seed))
            send(Event("started", seed))
        before = {seed: _trained_before(job, seed, trainer, send) for seed in seeds}
        todo = [seed for seed in seeds if before[seed] is None]
        if todo:
            folders = [_folder(job, seed) / results.CHECKPOINTS for seed in todo]
            keeper = checkpoints.Checkpoints(folders, preset.checkpoint_seconds, lambda line: send(Event("note", todo[0], why=line)), ENDING.is_set)
            models = trainer(todo, lambda seed, step, loss: send(Event("step", seed, step, loss)), keeper)
            for seed, trained in zip(todo, models, strict=True):
                _save(job, seed, trained, keeper.resumed_at)
        for seed in seeds:
            shutil.rmtree(_folder(job, seed) / results.CHECKPOINTS, ignore_errors=True)
        for seed in seeds:
            if ENDING.is_set():
                raise checkpoints.Interrupted
            send(Event("evaluating", seed))
            status = _finish(job, seed, trainer, evaluate, clock)
            if preset.haste and job.cell.shown(seed):  # beside other workers, with what is compiled already
                _add_speed(job, seed, measure.speed(trainer, evaluate, seed))
            send(Event("done", seed, status=status))


def _folder(job: Job, seed) -> Path:
    from bench import grid

    return grid.folder(job.output, job.cell.run_id(seed))


def _save(job: Job, seed: int, trained, resumed_at: list[int]) -> None:
    """Writes trained parameters with all that is known of their training: from here on it is not repeated."""
    from bench import checkpoints, results

    notes = {"history": {name: values.tolist() for name, values in trained.history.items()}, "diverged_at": trained.diverged_at}
    notes |= {"cpu_seconds": trained.cpu_seconds}
    notes |= {"validation_loss": trained.validation_loss, "resumed_at": resumed_at, "attempt": job.attempt if seed == job.seeds[0] else 1}
    checkpoints.save(_folder(job, seed) / results.PARAMETERS, trained.model, sealed.plain(notes), job.cell.run_id(seed))


def _read_trained(job: Job, seed: int, trainer):
    """(what `_save` wrote, its notes). Raises `FileNotFoundError`, `Damaged`, or `ValueError` for another architecture."""
    from bench import checkpoints, results, train

    like = train.initial(trainer.model, trainer.system.spec, trainer.values, trainer.scales, seed)
    model, notes = checkpoints.restore(_folder(job, seed) / results.PARAMETERS, like, job.cell.run_id(seed))
    numbers = sealed.numbers(notes)
    history = {name: train.column(name, values) for name, values in sealed.numbers(notes["history"]).items()}
    return train.Trained(model, history, numbers["validation_loss"], notes["diverged_at"]), notes


def _trained_before(job: Job, seed: int, trainer, send):
    """What an earlier process trained and left whole, or None."""
    try:
        return _read_trained(job, seed, trainer)
    except FileNotFoundError:
        return None
    except ValueError as error:
        send(Event("note", seed, why=f"{error}: the run is trained again"))
        return None


def _finish(job: Job, seed, trainer, evaluate, clock) -> str:
    """Evaluates what was trained and writes the result; returns its status."""
    from bench import checkpoints, parts

    trained, notes = _read_trained(job, seed, trainer)
    metrics, curves, made = parts.completed(_folder(job, seed), job.cell, evaluate, trained.model, checkpoints.digest(trained.model))
    curves = {**{f"training_{name}": values for name, values in trained.history.items()}, **curves}
    status = "finished" if trained.diverged_at is None else "diverged"
    _write(job, seed, status, trained.metrics() | metrics, curves, made or provenance.of(clock), trainer, trained, notes)
    return status


def _old_speed(job: Job, seed) -> dict:
    """What was measured of this run before, if its training is the same: the names of runs see to that."""
    from bench import results

    try:
        return results.read(_folder(job, seed))["speed"]
    except results.ResultsError:
        return {}


def _add_speed(job: Job, seed, speed: dict) -> None:
    from bench import results

    where = _folder(job, seed)
    result = results.read(where)
    results.write(where, {**result, "speed": speed})


def _write(job: Job, seed, status, metrics, curves, made: dict, trainer=None, trained=None, notes=None) -> None:
    from dataclasses import asdict

    from bench import checkpoints, identity, results

    cell, notes = job.cell, notes or {}
    if not cell.shown(seed):
        curves = {name: values for name, values in curves.items() if name not in MOTION}
    configuration = identity.plain(cell.configuration())
    result = {
        "run": cell.run_id(seed),
        "system": cell.system,
        "model": cell.model,
        "seed": seed,
        "status": status,
        "diverged_at_step": None if trained is None else trained.diverged_at,
        "configuration": configuration,
        "configuration_hash": identity.digest(identity.canonical(configuration)),
        "scales": None if trainer is None else asdict(trainer.scales),
        "metrics": metrics,
        "speed": _old_speed(job, seed),
        "parameters": None if trained is None else checkpoints.digest(trained.model),
        "provenance": {
            **made,
            "execution": cell.execution,
            "attempt": notes.get("attempt", job.attempt),
            "resumed_at": notes.get("resumed_at", []),
            "training_cpu_seconds": notes.get("cpu_seconds"),
            **cell.code,
        },
    }
    results.write(_folder(job, seed), result, curves)
