"""Whether a model's field feeds and drains the true energy at the rate at which nature does: of systems with a force that no Lagrangian gives."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from bench.train import ONCE
from systems._system import System


def balance(
    system: System, x: Float[np.ndarray, "n 2 dof"], c: Float[np.ndarray, "n context"], rate: Float[np.ndarray, "n 2 dof"]
) -> dict[str, float]:
    """power_balance, mean |∇H·ẋ̂ − F·v| / mean Σ_i |∂H/∂x_i ẋ̂_i|, and power_error, mean |∇H·ẋ̂ − F·v| / mean |F·v|, of predicted rates ẋ̂ at x = (q, v).

    H is the true energy and F·v the true power of the force. Both are local, so that chaos has no part in them. The first is a share of all that
    flows through the energy: 0 of the truth, and of a field that keeps H what the force does. The second is a share of what the force does: 1 % too
    much friction is 0.01. It is absent where the force does no work. +∞ where rates are not finite, and where nothing flows.
    """

    def one(x, c, rate):
        flow = jax.grad(system.energy)(x, c) * rate
        power = system.power(x, c)
        return jnp.abs(flow.sum() - power), jnp.abs(flow).sum(), jnp.abs(power)

    parts = jax.jit(jax.vmap(one), compiler_options=ONCE)(x, c, rate)
    off, flow, power = (float(np.mean(part)) for part in parts)
    if not np.isfinite(off):
        off, flow = float("inf"), 1.0
    found = {"power_balance": off / flow if flow > 0 else float("inf")}
    return found | ({"power_error": off / power} if power > 0 else {})
