"""Worker processes: as many as there are cores, one thread each; a worker that dies costs the run in hand alone."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path

import psutil

from bench.worker import NO_SPACE, REFUSED, Event, Job, work
from bench.worker import alone as worker_alone

ATTEMPTS = 2  # of a run whose worker died or raised; then it counts as failed
LOOKS = 0.5  # s between two looks at what a worker takes
FAREWELL = 2.0  # s that a worker has to leave a checkpoint when the grid ends early


class NoSpace(RuntimeError):
    """The disk is full: nothing more can be kept."""


def family(pid: int) -> list[psutil.Process]:
    """A process and all its descendants, as far as they live."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def memory(pid: int) -> float:
    """GiB that a process and its descendants hold."""
    total = 0
    for process in family(pid):
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total / 2**30


def end_tree(pid: int) -> None:
    """Ends a worker and all that it started, also what has lost its parent since."""
    processes = family(pid)
    if hasattr(os, "killpg"):
        with suppress(OSError):
            if os.getpgid(pid) == pid:  # a worker leads a group of its own
                os.killpg(pid, signal.SIGKILL)
    for process in processes:
        with suppress(psutil.Error):
            process.kill()


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
        self.since = time.monotonic()

    def take(self, job: Job) -> None:
        self.job, self.left, self.since = job, list(job.seeds), time.monotonic()
        with suppress(OSError):  # it has just died: that is noticed when it is listened to
            self.connection.send(job)

    def listen(self) -> Iterator[Event]:
        """All that it has said and nobody heard yet. Raises `EOFError` once it will say no more."""
        alive = self.process.is_alive()  # asked first: what the dead have said is in the pipe
        try:
            while self.connection.poll():
                yield self.connection.recv()
        except OSError:
            alive = False
        if not alive:
            raise EOFError

    def beyond_limits(self) -> tuple[str, str] | None:
        """(status, why) of a run that takes too long, or too much memory."""
        if self.job is None:
            return None
        preset = self.job.cell.preset
        if preset.time_limit is not None and time.monotonic() - self.since > preset.time_limit:
            return "timeout", f"over its time limit of {preset.time_limit:g} s"
        if preset.memory_limit is not None and (held := memory(self.process.pid or 0)) > preset.memory_limit:
            return "failed", f"over its memory limit of {preset.memory_limit:g} GiB ({held:.2f} GiB)"
        return None

    def ask_to_end(self) -> None:
        """Busy, it leaves a checkpoint at the end of its chunk; idle, it ends."""
        with suppress(OSError):
            self.connection.send(None)
        if self.job is not None and self.process.is_alive():
            self.process.terminate()

    def kill(self, patience: float = 0.0) -> None:
        """Ends it with all that it started, if it doesn't end by itself."""
        self.process.join(timeout=patience)
        if self.process.is_alive():
            end_tree(self.process.pid or 0)
            self.process.join(timeout=2)


def run(jobs: list[Job], workers: int, logs: Path, tell: Callable[[Job, Event], None]) -> None:
    """Does all jobs, the first ones first. `tell(job, event)` is called for each event; a run that cannot be done is told as `failed` or `timeout`.

    A run whose worker died or raised is tried once more. Raises `NoSpace` when the disk is full. However it ends, no worker is left behind.
    """
    logs.mkdir(parents=True, exist_ok=True)
    waiting = list(jobs)
    attempts: dict[tuple, int] = {}
    pool: dict[int, _Worker] = {}

    def assign(number: int) -> None:
        if not waiting:
            return
        worker = pool.get(number)
        if worker is None or not worker.process.is_alive():
            if worker is not None:
                worker.connection.close()
            worker = pool[number] = _Worker(number, logs, waiting[0])
        worker.take(waiting.pop(0))

    def give_up(worker: _Worker, job: Job, status: str, why: str, again: bool = True) -> None:
        """The run in hand is lost: it is tried again with the seeds that are left, or these go on without it."""
        left, worker.left, worker.job = worker.left, [], None
        if not left:
            return
        seed = left[0]
        key = (job.cell, job.kind, seed)
        attempts[key] = attempts.get(key, 0) + 1
        if not again or attempts[key] >= ATTEMPTS:
            tell(job, Event("done", seed, status=status, why=f"{why}, attempt {attempts[key]} (see {worker.log})"))
            left = left[1:]
        else:
            tell(job, Event("note", seed, why=f"{why}: it is tried again"))
        put_back(job, left)

    def put_back(job: Job, left: list[int | None]) -> None:
        if left:
            attempt = 1 + attempts.get((job.cell, job.kind, left[0]), 0)
            waiting.insert(0, replace(job, seeds=tuple(left), attempt=attempt))

    def hear(worker: _Worker, job: Job, event: Event) -> None:
        if event.what != "finished":
            if event.what == "done":
                worker.left.remove(event.seed)
            if event.what in ("started", "done", "waiting"):
                worker.since = time.monotonic()
            tell(job, event)
        elif event.status == NO_SPACE:
            raise NoSpace
        elif event.status == REFUSED:
            for seed in worker.left:
                tell(job, Event("done", seed, status=REFUSED, why=event.why))
            worker.left, worker.job = [], None
        elif event.status:
            give_up(worker, job, "failed", event.status)
        else:
            worker.job = None
            tell(job, event)

    def listen(worker: _Worker) -> bool:
        """Takes all that a worker has to say; False if it will say no more."""
        try:
            for event in worker.listen():
                if worker.job is not None:
                    hear(worker, worker.job, event)
        except EOFError:
            return False
        return True

    def end_at_limit(worker: _Worker, status: str, why: str) -> None:
        """Ends a worker whose run is over its limits; a run that it finished in that moment is finished."""
        in_hand = worker.left[:1]
        worker.kill()
        listen(worker)
        if worker.job is not None and worker.left[:1] == in_hand:
            give_up(worker, worker.job, status, why, again=False)
        elif worker.job is not None:
            job, left, worker.job = worker.job, worker.left, None
            put_back(job, left)

    finished = False
    try:
        for number in range(min(workers, len(waiting))):
            assign(number)
        looked = time.monotonic()
        while busy := [worker for worker in pool.values() if worker.job is not None]:
            sources: dict = {source: worker for worker in busy for source in (worker.connection, worker.process.sentinel)}
            for worker in {sources[source] for source in wait(list(sources), timeout=LOOKS)}:
                if not listen(worker) and worker.job is not None:
                    worker.kill(patience=1.0)  # it may have closed its end alone
                    give_up(worker, worker.job, "failed", f"its worker died with exit code {worker.process.exitcode}")
            if time.monotonic() - looked >= LOOKS:
                looked = time.monotonic()
                for worker in pool.values():
                    if beyond := worker.beyond_limits():
                        end_at_limit(worker, *beyond)
            for number, worker in pool.items():
                if worker.job is None:
                    assign(number)
        finished = True
    finally:
        try:
            for worker in pool.values():
                worker.ask_to_end()
            deadline = time.monotonic() + (2.0 if finished else FAREWELL)
            for worker in pool.values():
                worker.kill(max(0.0, deadline - time.monotonic()))
        finally:  # also when asked to end once more, by somebody who doesn't want to wait
            for worker in pool.values():
                worker.kill()
                worker.connection.close()


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
        end_tree(process.pid or 0)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
