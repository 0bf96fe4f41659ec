"""One process at a time works in a folder; a dead one leaves nothing locked."""

import os
import platform
import signal
import subprocess
import sys
import threading
import time

import pytest
from filelock import FileLock

from bench import locks
from bench.locks import Busy

HOLD = "import sys, time, pathlib; from bench import locks\nwith locks.held(pathlib.Path(sys.argv[1])):\n print('held', flush=True)\n time.sleep(600)"
COUNT = """
import sys, time, pathlib
from bench import locks
folder = pathlib.Path(sys.argv[1])
for _ in range(20):
    with locks.held(folder, wait=-1.0):
        count = int((folder / "count").read_text())
        time.sleep(0.001)
        (folder / "count").write_text(str(count + 1))
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of a folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_who_holds_a_lock_is_named_by_process_and_machine(holder, tmp_path):
    assert locks.is_held(tmp_path / locks.NAME)
    with pytest.raises(Busy, match=rf"process {holder.pid} on .* \(since 2.*\) is working in .*wait for it, or give another folder") as error:
        locks.held(tmp_path).__enter__()
    assert platform.node() in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_the_lock_of_a_killed_process_is_taken_over(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert not locks.is_held(tmp_path / locks.NAME)
    with locks.held(tmp_path):
        assert f"process {os.getpid()} on" in locks.owner(tmp_path / locks.NAME)


def test_waiting_ends_when_the_other_does_or_when_patience_does(holder, tmp_path):
    start = time.monotonic()
    with pytest.raises(Busy):
        locks.held(tmp_path, wait=0.3).__enter__()
    assert 0.2 < time.monotonic() - start < 30
    threading.Timer(0.2, holder.kill).start()
    with locks.held(tmp_path, wait=60.0):
        pass


def test_who_only_looks_whether_a_lock_is_held_gets_in_nobodys_way(tmp_path):
    looking = threading.Event()

    def look():
        with FileLock(tmp_path / locks.NAME):
            looking.set()
            time.sleep(0.1)

    other = threading.Thread(target=look)
    other.start()
    looking.wait()
    with locks.held(tmp_path):
        other.join()


def test_processes_exclude_each_other(tmp_path):
    (tmp_path / "count").write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", COUNT, str(tmp_path)]) for _ in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert (tmp_path / "count").read_text() == "40"


def test_threads_exclude_each_other(tmp_path):
    inside, most, errors = [], [], []

    def work():
        try:
            for _ in range(10):
                with locks.held(tmp_path, wait=-1.0):
                    inside.append(1)
                    most.append(len(inside))
                    time.sleep(0.001)
                    inside.pop()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert most == [1] * 20


def test_a_lock_is_given_back_when_the_work_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), locks.held(tmp_path / "made"):
        raise ZeroDivisionError
    assert not locks.is_held(tmp_path / "made" / locks.NAME)


@pytest.mark.parametrize("content", ["", "rubbish", "[]", "{}", "null", "\x00"])
def test_an_owner_who_cannot_be_read_is_another_process(tmp_path, content):
    with locks.held(tmp_path):
        (tmp_path / locks.NAME).write_text(content)
        assert locks.owner(tmp_path / locks.NAME) == ""
        with pytest.raises(Busy, match=r"^another process is working"):
            locks.held(tmp_path).__enter__()
    assert locks.owner(tmp_path / "nowhere") == ""
