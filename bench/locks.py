"""Locks on folders, held by one process at a time; the operating system takes a dead owner's lock away."""

import contextlib
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

NAME = ".lock"


class Busy(RuntimeError):
    """Somebody else works in the same folder."""


@contextmanager
def held(folder: Path, wait: float = 1.0) -> Iterator[None]:
    """Holds the lock of a folder, which is made. Raises `Busy`, which names the owner, if it cannot be had within `wait` seconds (-1: for ever).

    A second is patience enough for `is_held`, which takes the lock for a moment.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    lock = FileLock(path, timeout=wait)
    try:
        lock.acquire()
    except Timeout:
        raise Busy(f"{owner(path) or 'another process'} is working in {folder}: wait for it, or give another folder with --output") from None
    try:
        with contextlib.suppress(OSError):  # who it is helps others only
            path.write_text(json.dumps({"process": os.getpid(), "machine": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}))
        yield
    finally:
        lock.release()


def owner(path: Path) -> str:
    """Who wrote his name into a lock last, for people; empty if nobody did."""
    try:
        said = json.loads(path.read_text())
        return f"process {said['process']} on {said['machine']} (since {said['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def is_held(path: Path) -> bool:
    """Whether a living process holds a lock."""
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
