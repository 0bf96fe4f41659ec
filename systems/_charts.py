"""Point transformations: the same motion in other coordinates, and so another Lagrangian."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from systems._system import Direction, System


@dataclass(frozen=True)
class PointTransformed(System):
    r"""L'(Q, V, c) = L(φ(Q), Dφ(Q) V, c) for a system L(q, v, c) and coordinates Q with q = φ(Q).

    A subclass sets `base`, `spec` and `recording` and defines `to_base`, which is φ. All that is sampled is the base's, seen from here, so that
    two charts of one system show the same motions. On mechanics in any coordinates: Arnold 1989, section 19.
    """

    base: System

    def to_base(self, q: Float[Array, " dof"]) -> Float[Array, " dof"]:
        """φ: coordinates here -> coordinates of the base."""
        raise NotImplementedError

    def from_base(self, q: Float[Array, " dof"]) -> Float[Array, " dof"]:
        """φ⁻¹; by default the fixed point of Q ↦ Q − (φ(Q) − q): for ‖D(φ − id)‖ ≤ ½ each turn halves the error. Never differentiated."""
        return jax.lax.fori_loop(0, 60, lambda _, Q: Q - (self.to_base(Q) - q), q)

    def common(self, x):
        return jnp.stack(jax.jvp(self.to_base, (x[0],), (x[1],)))

    def from_common(self, x):
        """(q, v) of the base -> (Q, V)."""
        Q = self.from_base(x[0])
        return jnp.stack([Q, jnp.linalg.solve(jax.jacfwd(self.to_base)(Q), x[1])])

    def lagrangian(self, q, v, c):
        q, v = jax.jvp(self.to_base, (q,), (v,))
        return self.base.lagrangian(q, v, c)

    def force(self, q, v, c):
        """Dφᵀ F, which does the same work."""
        (q, v), back = self.common(jnp.stack([q, v])), jax.vjp(self.to_base, q)[1]
        return back(self.base.force(q, v, c))[0]

    @property
    def forced(self):
        """As the base, unless the chart has a force of its own."""
        return self.base.forced if type(self).force is PointTransformed.force else True

    @property
    def dissipative(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]  (a class cannot ask its base's fields)
        """As the base: work is the same in all charts."""
        return self.base.dissipative

    def sample_initial(self, key):
        """As the base."""
        x, c = self.base.sample_initial(key)
        return self.from_common(x), c

    def sample_state(self, key):
        """As the base."""
        x, c = self.base.sample_state(key)
        return self.from_common(x), c

    def sample_evaluation(self, key, index):
        """As the base."""
        x, c = self.base.sample_evaluation(key, index)
        return self.from_common(x), c

    def symmetries(self):
        """The base's, ξ'(Q) = Dφ⁻¹ ξ(φ(Q))."""
        return {name: self._seen_from_here(direction) for name, direction in self.base.symmetries().items()}

    def false_symmetries(self):
        """The base's."""
        return {name: self._seen_from_here(direction) for name, direction in self.base.false_symmetries().items()}

    def _seen_from_here(self, direction: Direction) -> Direction:
        return lambda Q: jnp.linalg.solve(jax.jacfwd(self.to_base)(Q), direction(self.to_base(Q)))

    def energy_scale(self, x, c):
        """The base's."""
        return self.base.energy_scale(jax.vmap(self.common)(x), c)


@dataclass(frozen=True)
class Warp:
    r"""φ(Q) = Q + Σ_m a_m sin(k_m·Q + δ_m), Σ_m ‖a_m‖ ‖k_m‖ = ½: a smooth change of coordinates with ‖D(φ − id)‖ ≤ ½, one to one everywhere.

    Directions, phases and shares are drawn once from `seed`. k_m are the whole vectors of two angles up to length √2, in units of `wavenumber`:
    with 1 an angle stays an angle, φ(Q + 2π) = φ(Q) + 2π.
    """

    seed: int
    wavenumber: float = 1.0

    def terms(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(a [m, 2], k [m, 2], δ [m])."""
        random = np.random.default_rng(self.seed)
        k = self.wavenumber * np.array([(1, 0), (0, 1), (1, 1), (1, -1)], float)
        direction, phase, share = random.uniform(0, 2 * np.pi, len(k)), random.uniform(0, 2 * np.pi, len(k)), random.dirichlet(np.ones(len(k)))
        size = 0.5 * share / np.linalg.norm(k, axis=1)
        return size[:, None] * np.stack([np.cos(direction), np.sin(direction)], axis=1), k, phase

    def __call__(self, q: Float[Array, "2"]) -> Float[Array, "2"]:
        a, k, phase = self.terms()
        return q + jnp.sin(k @ q + phase) @ a
