"""Disks that are full, and folders that cannot be written."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scene import ONE, Scene


def mounting() -> tuple[str, ...] | None:
    """The beginning of a command that may mount what only it sees, or None where that is not allowed."""
    for prefix in (("unshare", "--mount"), ("unshare", "--map-root-user", "--mount")):
        if shutil.which("unshare"):
            test = [*prefix, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
            if subprocess.run(test, capture_output=True).returncode == 0:
                return prefix
    return None


PREFIX = mounting()
needs_mounting = pytest.mark.skipif(PREFIX is None, reason="this machine lets nobody mount a small disk: run as root, or allow user namespaces")


@needs_mounting
@pytest.mark.full
@pytest.mark.fault(
    "F8", "disk full during checkpoint, result and CSV", "no truncated file under a final name; clear message; resumes when space is back"
)
def test_a_full_disk_truncates_nothing_and_is_told(tmp_path, warm, expected, measured):
    scene = Scene(tmp_path / "s", warm=warm)
    command = [*(PREFIX or ()), sys.executable, str(Path(__file__).with_name("full_disk.py")), str(scene.root)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(scene.root)})
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert {run: tuple(bits) for run, bits in found["outcome"].items()} == {run: bits for run, bits in expected.items() if run in found["outcome"]}
    measured(f"3 of 3 told in one line with exit 1, {found['whole']} files whole; taken up again at step {found['checkpoint']} of 200, bits equal")


@pytest.mark.fault("F9", "read-only results folder", "error before training")
def test_a_read_only_results_folder_is_refused_before_training(scene, measured):
    scene.output.mkdir(parents=True)
    latest = scene.output.parent
    if os.geteuid() != 0:
        scene.output.chmod(0o500)
        prefix: tuple[str, ...] = ()
    elif PREFIX is not None:  # root writes everywhere but on what is mounted read-only
        script = f'mount --bind "{latest}" "{latest}" && mount -o remount,ro,bind "{latest}" && exec "$@"'
        prefix = (*PREFIX, "sh", "-c", script, "sh")
    else:
        pytest.skip("root may write everywhere, and nothing can be mounted")
    done = scene.bench("run", "smoke", *ONE, prefix=prefix)
    assert done.code == 2, done.said
    assert "cannot be written" in done.said
    assert "--output" in done.said
    assert not list(scene.output.iterdir())
    measured(f"exit 2 after {done.seconds:.1f} s: “{done.said.strip().partition('bench: ')[2].partition(' (')[0].rpartition('/')[2]} …”")
