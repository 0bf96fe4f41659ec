"""Worker processes: as many as there are cores, one thread each; a worker that dies costs the run in hand alone."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path

from bench.worker import Event, Job, work
from bench.worker import alone as worker_alone

ATTEMPTS = 2  # of a run whose worker died; then it counts as failed


class _Worker:
    def __init__(self, number: int, logs: Path, job: Job):
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.log = logs / f"worker-{number}.log"
        self.process = context.Process(target=work, args=(other, self.log, job.cache, job.cell.preset.haste), daemon=True)
        self.process.start()
        other.close()
        self.job: Job | None = None
        self.left: list[int | None] = []

    def take(self, job: Job) -> None:
        self.job, self.left = job, list(job.seeds)
        self.connection.send(job)

    def end(self) -> None:
        with suppress(OSError):
            self.connection.send(None)
        self.process.join(timeout=2)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(timeout=2)
        self.connection.close()


def run(jobs: list[Job], workers: int, logs: Path, tell: Callable[[Job, Event], None]) -> None:
    """Does all jobs, the first ones first. `tell(job, event)` is called for each event; a run that cannot be done is told as `failed`."""
    logs.mkdir(parents=True, exist_ok=True)
    waiting = list(jobs)
    attempts: dict[tuple, int] = {}
    pool: dict[int, _Worker] = {}

    def assign(number: int) -> None:
        if not waiting:
            return
        worker = pool.get(number)
        if worker is None or not worker.process.is_alive():
            worker = pool[number] = _Worker(number, logs, waiting[0])
        worker.take(waiting.pop(0))

    def give_up(worker: _Worker, job: Job, reason: str) -> None:
        """The run in hand is lost: it is tried again once with the seeds that are left, then they are without it."""
        left, worker.left = worker.left, []
        worker.job = None
        if not left:
            return
        seed = left[0]
        key = (job.cell, job.kind, seed)
        attempts[key] = attempts.get(key, 0) + 1
        if attempts[key] >= ATTEMPTS:
            tell(job, Event("done", seed, status=f"failed: {reason} (see {worker.log})"))
            left = left[1:]
        if left:
            waiting.insert(0, replace(job, seeds=tuple(left)))

    try:
        for number in range(min(workers, len(waiting))):
            assign(number)
        while busy := {number: w for number, w in pool.items() if w.job is not None}:
            sources: dict = {source: number for number, w in busy.items() for source in (w.connection, w.process.sentinel)}
            for number in {sources[source] for source in wait(list(sources))}:
                worker, job = pool[number], busy[number].job
                if job is None:
                    continue
                try:
                    event = worker.connection.recv() if worker.connection.poll() else None
                except (EOFError, OSError):
                    event = None
                if event is None:
                    if worker.process.is_alive():
                        continue
                    worker.process.join()
                    give_up(worker, job, f"its worker died with exit code {worker.process.exitcode}")
                elif event.what == "finished":
                    if event.status:
                        give_up(worker, job, event.status)
                    else:
                        tell(job, event)
                    worker.job = None
                else:
                    if event.what == "done":
                        worker.left.remove(event.seed)
                    tell(job, event)
                if worker.job is None:
                    assign(number)
    finally:
        for worker in pool.values():
            worker.end()


class Failed(RuntimeError):
    """What was done in a process of its own went wrong there."""


def alone(module: str, name: str, arguments: tuple, cache: Path, log: Path) -> Iterator:
    """What a generator function yields in a process of its own with one thread. Raises `Failed`, which names the log."""
    context = multiprocessing.get_context("spawn")
    connection, other = context.Pipe()
    process = context.Process(target=worker_alone, args=(other, log, cache, module, name), daemon=True)
    process.start()
    other.close()
    connection.send(arguments)  # and not with the process: reading them may import JAX, which must find its environment set
    try:
        while True:
            try:
                item = connection.recv()
            except EOFError:
                item = ("failed", "its process died")
            if item[0] == "failed":
                raise Failed(f"{name}: {item[1]} (see {log})")
            if item[0] == "finished":
                return
            yield item
    finally:
        process.kill()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
