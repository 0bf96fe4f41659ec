"""Where and with what a result was made."""

import platform
import time
from typing import Any

from bench import identity

CLOCK_TOLERANCE = 5.0  # s, by which clocks may differ without having been set


def clock() -> tuple[float, float]:
    """Time of day, and time that no clock setting moves [s]."""
    return time.time(), time.monotonic()


def of(since: tuple[float, float]) -> dict[str, Any]:
    """Commit, versions, device, and when; `since` is the clock when the work began: by how much it was set since is told (None: it was not)."""
    import jax

    moved = (time.time() - since[0]) - (time.monotonic() - since[1])
    changes = identity.git("status", "--porcelain", "--untracked-files=all", "--", "systems", "models", "bench")  # a new row is no tracked file
    return {
        "commit": identity.git("rev-parse", "HEAD"),
        "dirty": None if changes is None else bool(changes),
        "versions": identity.versions(),
        "device": jax.devices()[0].device_kind,
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": identity.processor(),
        "training_dtype": "float32",
        "truth_dtype": "float64",
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "clock_moved_seconds": round(moved) if abs(moved) > CLOCK_TOLERANCE else None,
    }
