"""The one abstraction of physics: a system is its Lagrangian, its sampling and its constants; everything else is derived here, once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from systems import _mechanics as mechanics
from systems._integrators import Adams

Chart = Literal["qv", "qp"]
State = Float[Array, "2 dof"]
Context = Float[Array, " context"]
Direction = Callable[[Float[Array, " dof"]], Float[Array, " dof"]]


@dataclass(frozen=True)
class Spec:
    """All that a model may know of a system."""

    dof: int  # coordinates of one site; a system that is no lattice is one site
    context: int = 0  # non-dynamical parameters of a trajectory
    angles: tuple[bool, ...] = ()  # which coordinates are angles; () means none
    lattice: bool = False  # a ring of any number of sites, one coordinate each

    def __post_init__(self):
        if self.angles and len(self.angles) != self.dof:
            raise ValueError(f"angles has {len(self.angles)} entries for {self.dof} degrees of freedom: give one per coordinate")
        if self.lattice and self.dof != 1:
            raise ValueError(f"a lattice has one coordinate a site, not {self.dof}")

    def is_angle(self) -> tuple[bool, ...]:
        """One entry per coordinate of a site."""
        return self.angles or (False,) * self.dof


@dataclass(frozen=True)
class Recording:
    """How a system is filmed: for training, and for evaluation."""

    trajectories: int  # for training, validation and test together
    duration: float  # s, of each of them
    frame: float  # s between two frames
    starts: int  # evaluation trajectories
    horizon: float  # s, of each of them
    evaluation_frame: float  # s between two of their frames, a multiple of `frame`
    substeps: int  # steps of the integrator an evaluation frame
    window: float  # s, over which rollout errors are averaged
    integrator: Adams = Adams()  # of rollouts, of models and of the truth beside them

    def __post_init__(self):
        if abs(self.evaluation_frame / self.frame - self.stride) > 1e-9 or self.stride < 1:
            raise ValueError(f"evaluation_frame is {self.evaluation_frame} s: give a multiple of the frame of {self.frame} s")

    @property
    def stride(self) -> int:
        """Frames in an evaluation frame: how often a step map is applied between two of them."""
        return round(self.evaluation_frame / self.frame)


@dataclass(frozen=True)
class System:
    r"""A mechanical system: L(q, v, c) and what follows from it.

    A state is x = (q, v) [2, dof], or (q, p) in the canonical chart "qp". c [context] are the parameters of one trajectory.
    A subclass is a frozen dataclass whose fields are its physical constants; it sets `spec` and `recording` and defines
    `lagrangian`, `sample_initial`, `sample_state` and `energy_scale`.
    """

    spec: ClassVar[Spec]
    recording: ClassVar[Recording]
    dissipative: ClassVar[bool] = False  # whether it declares that its force never feeds it, F·v ≤ 0: data that show otherwise are refused

    # What a system says of itself -------------------------------------------------------------------------------

    def lagrangian(self, q, v, c) -> Float[Array, ""]:
        """L(q, v, c) [J]; on a lattice the density of the middle one of three neighbouring sites, q and v being [3]."""
        raise NotImplementedError

    def force(self, q, v, c) -> Float[Array, " dof"]:
        """Generalised force F that no Lagrangian gives (friction, contact); none by default. Where it acts, the energy changes by its work."""
        return jnp.zeros_like(q)

    def sample_initial(self, key: Key[Array, ""]) -> tuple[State, Context]:
        """Start of one training trajectory."""
        raise NotImplementedError

    def sample_state(self, key: Key[Array, ""]) -> tuple[State, Context]:
        """One independent state, as the papers train."""
        raise NotImplementedError

    def sample_evaluation(self, key: Key[Array, ""], index: Array) -> tuple[State, Context]:
        """Start number `index` of the evaluation; by default of the training law."""
        return self.sample_initial(key)

    def energy_scale(self, x: Float[Array, "n 2 dof"], c: Float[Array, "n context"]) -> Float[Array, " n"]:
        """Positive, gauge-free unit of energy errors for evaluation trajectories that start at x [J]."""
        raise NotImplementedError

    def admissible(self, x: State) -> Bool[Array, ""]:
        """Whether the equations hold at x = (q, v): |v| < 1 for a relativistic particle."""
        return jnp.isfinite(x).all()

    def symmetries(self) -> dict[str, Direction]:
        """Directions ξ(q) [dof] along which L does not change, by name: the charge ∂L/∂v·ξ of each is conserved (Noether 1918)."""
        return {}

    def false_symmetries(self) -> dict[str, Direction]:
        """Directions along which it does change: controls for what is found about the others."""
        return {}

    def common(self, x: State) -> State:
        """x = (q, v) in the coordinates in which all charts of one system are compared: its own, unless it is a chart of another."""
        return x

    def paper(self) -> "System":
        """This system with the constants of the publication that it comes from, where they differ."""
        return self

    # What follows -----------------------------------------------------------------------------------------------

    def expansion(self, x: State, c: Context) -> mechanics.Expansion:
        """Mass matrix A and ∂L/∂q − C v at (q, v)."""
        return mechanics.expand(self.lagrangian, x[0], x[1], c, self.spec.lattice)

    def acceleration(self, x: State, c: Context) -> Float[Array, " dof"]:
        """v̇ at (q, v), from the Euler-Lagrange equation."""
        return mechanics.euler_lagrange(self.lagrangian, x[0], x[1], c, self.force(x[0], x[1], c), self.spec.lattice)

    def energy(self, x: State, c: Context) -> Float[Array, ""]:
        """E = v·∂L/∂v − L at (q, v) [J]."""
        return mechanics.legendre(self.lagrangian, x[0], x[1], c, self.spec.lattice)

    @property
    def forced(self) -> bool:
        """Whether a force acts that no Lagrangian gives."""
        return type(self).force is not System.force

    def power(self, x: State, c: Context) -> Float[Array, ""]:
        """F·v at (q, v) [W], at which the force feeds the energy: dE/dt = F·v."""
        return self.force(x[0], x[1], c) @ x[1]

    def momentum(self, q, v, c: Context) -> Float[Array, " dof"]:
        """p = ∂L/∂v."""
        return mechanics.momentum(self.lagrangian, q, v, c, self.spec.lattice)

    def velocity(self, q, p, c: Context) -> Float[Array, " dof"]:
        """v with ∂L/∂v(q, v) = p, by Newton's method from rest, each step halved until the residual falls.

        For convex L it converges from anywhere, also where L ends (|v| = 1): a step across that edge has no finite residual.
        Not differentiable; rates are carried between charts by `rate_to_chart` and `rate_from_chart` instead.
        """

        def residual(v):
            return p - self.momentum(q, v, c)

        def newton(state):
            v, r, scale, n = state
            step = mechanics.solve(self.expansion(jnp.stack([q, v]), c).A, r)
            v_new = v + scale * step
            r_new = residual(v_new)
            better = jnp.abs(r_new).max() < jnp.abs(r).max()  # false for NaN too
            return jnp.where(better, v_new, v), jnp.where(better, r_new, r), jnp.where(better, 1.0, scale / 2), n + 1

        def unsolved(state):
            _, r, scale, n = state
            smallest = 4 * jnp.finfo(p.dtype).eps
            return (jnp.abs(r).max() > smallest * (1 + jnp.abs(p).max())) & (scale > smallest) & (n < 1000)

        v = jnp.zeros_like(p)
        v, r, _, _ = jax.lax.while_loop(unsolved, newton, (v, residual(v), jnp.ones((), p.dtype), 0))
        return jnp.where(jnp.isfinite(r).all(), v, jnp.nan)

    def field(self, x: State, c: Context, chart: Chart = "qv") -> State:
        """ẋ at x, both in the given chart: (v, a), or (v, ∂L/∂q + F)."""
        state = self.from_chart(x, c, chart)
        return self.rate_to_chart(jnp.stack([state[1], self.acceleration(state, c)]), state, c, chart)

    def to_chart(self, x: State, c: Context, chart: Chart) -> State:
        """(q, v) -> the given chart."""
        return x if chart == "qv" else jnp.stack([x[0], self.momentum(x[0], x[1], c)])

    def from_chart(self, x: State, c: Context, chart: Chart) -> State:
        """The given chart -> (q, v)."""
        return x if chart == "qv" else jnp.stack([x[0], self.velocity(x[0], x[1], c)])

    def rate_to_chart(self, rate: State, x: State, c: Context, chart: Chart) -> State:
        """(q̇, v̇) at x = (q, v) -> (q̇, ṗ), ṗ = ∂p/∂q q̇ + A v̇."""
        if chart == "qv":
            return rate
        return jnp.stack([rate[0], jax.jvp(lambda q, v: self.momentum(q, v, c), (x[0], x[1]), (rate[0], rate[1]))[1]])

    def rate_from_chart(self, rate: State, x: State, c: Context, chart: Chart) -> State:
        """(q̇, ṗ) at x = (q, v) -> (q̇, v̇), v̇ = A⁻¹ (ṗ − ∂p/∂q q̇) = ∂v/∂q q̇ + ∂v/∂p ṗ."""
        if chart == "qv":
            return rate
        along_q = jax.jvp(lambda q: self.momentum(q, x[1], c), (x[0],), (rate[0],))[1]
        return jnp.stack([rate[0], mechanics.solve(self.expansion(x, c).A, rate[1] - along_q)])
