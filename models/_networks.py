"""The network that every model builds on: a multilayer perceptron of one site and its neighbours. Angles and scaling live here alone."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from systems._mechanics import windows
from systems._system import Spec


def _falling(x: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """e = e^{−|x|}, which cannot overflow, and 1/(1 + e)."""
    e = jnp.exp(-jnp.abs(x))
    return e, 1 / (1 + e)


@jax.custom_jvp
def softplus(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """log(1 + eˣ), whose derivative is the logistic σ and whose further ones are polynomials of σ: one exponential serves them all."""
    return jax.nn.relu(x) - jnp.log(_falling(x)[1])


@jax.custom_jvp
def logistic(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """σ(x) = 1/(1 + e⁻ˣ), σ' = σ (1 − σ)."""
    e, r = _falling(x)
    return jnp.where(x >= 0, r, e * r)


@softplus.defjvp
def _(primals, tangents):
    return softplus(*primals), logistic(*primals) * tangents[0]


@logistic.defjvp
def _(primals, tangents):
    σ = logistic(*primals)
    return σ, σ * (1 - σ) * tangents[0]


ACTIVATIONS = {"softplus": softplus, "tanh": jnp.tanh}
SQUARES = 3 / 2**0.5  # how much larger squared outputs begin than a plain one: 0.3 N(0, 1)/√n with the he law


@dataclass(frozen=True)
class Scales:
    """Training statistics in the model's own chart: static floats, one per coordinate of a site (an array attribute would be trained)."""

    q: tuple[float, ...]  # standard deviation of q̇, which divides coordinates, so that velocities come out of unit spread
    v: tuple[float, ...]  # of the second half of the state: v, or p in the canonical chart
    rate: tuple[float, ...]  # of the second half of its rate: v̇, or ṗ
    c: tuple[float, ...]  # of the context
    frame: float  # s between two frames


@dataclass(frozen=True)
class Shape:
    """Architecture of a perceptron and the law of its first weights."""

    width: int = 64
    ring_width: int = 64  # on a lattice, where the network is evaluated at every site
    depth: int = 3  # hidden layers
    activation: Literal["softplus", "tanh"] = "softplus"
    init: Literal["he", "lnn_paper"] = "he"

    def __post_init__(self):
        if min(self.width, self.ring_width, self.depth) < 1:
            raise ValueError(f"width, ring_width and depth must be at least 1, not {self.width}, {self.ring_width}, {self.depth}")


def weight_spreads(init: str, fan_ins: list[int], width: int) -> list[float]:
    """Standard deviation of the first weights of each layer.

    he: √(2/fan_in), the last layer a tenth of that. lnn_paper: 2.2/√n, 0.58 i/√n for the i-th hidden layer, √n, n the width
    (Cranmer et al. 2020, appendix C, found there by symbolic regression).
    """
    if init == "lnn_paper":
        hidden = [0.58 * (i + 1) for i in range(len(fan_ins) - 2)]
        return [gain * width**-0.5 for gain in (2.2, *hidden, width)]
    he = [(2 / n) ** 0.5 for n in fan_ins]
    return [*he[:-1], 0.1 * he[-1]]


class Local(nnx.Module):
    """k numbers from one site with its neighbours (on a lattice q and v are [3]), or from a whole system that is no lattice (q, v [dof]).

    Inputs: (sin q, cos q) of angles, other coordinates, v and c divided by their scales. `velocity=False`: of q and c alone.
    """

    def __init__(self, spec: Spec, scales: Scales, k: int, shape: Shape, *, rngs: nnx.Rngs, velocity: bool = True):
        self.spec, self.scales, self.velocity, self.activation = spec, scales, velocity, shape.activation
        sites, width = (3, shape.ring_width) if spec.lattice else (1, shape.width)
        positions = sum(2 if angle else 1 for angle in spec.is_angle())
        fan_ins = [sites * (positions + spec.dof * velocity) + spec.context] + [width] * shape.depth
        self.layers = nnx.List()  # [n + 1, m] each: the weights and, as its last row, the biases, so that an optimiser sees a layer as one matrix
        for n, m, spread in zip(fan_ins, [*fan_ins[1:], k], weight_spreads(shape.init, fan_ins, width), strict=True):
            # kept apart by the barrier, so that a draw is rounded as it is alone
            draw = jax.lax.optimization_barrier(jax.random.normal(rngs.params(), (n, m), jnp.float32))
            self.layers.append(nnx.Param(jnp.concatenate([jnp.float32(spread) * draw, jnp.zeros((1, m), jnp.float32)])))

    def features(self, q, v, c) -> Float[Array, " features"]:
        """What the network sees of one state."""
        spec, scales = self.spec, self.scales
        columns = []
        for angle, x, scale in zip(spec.is_angle(), q.reshape(spec.dof, -1), scales.q, strict=True):
            columns += [jnp.sin(x), jnp.cos(x)] if angle else [x / scale]
        if self.velocity:
            columns += [x / scale for x, scale in zip(v.reshape(spec.dof, -1), scales.v, strict=True)]
        columns += [x[None] / scale for x, scale in zip(c, scales.c, strict=True)]
        return jnp.concatenate(columns)

    def __call__(self, q, v, c) -> Float[Array, " k"]:
        x = self.features(q, v, c)
        *hidden, last = (layer[...] for layer in self.layers)
        for W in hidden:
            x = ACTIVATIONS[self.activation](x @ W[:-1] + W[-1])
        return x @ last[:-1] + last[-1]

    def everywhere(self, q, v, c) -> Float[Array, "sites k"]:
        """The k numbers of every site; a system that is no lattice is one site."""
        if not self.spec.lattice:
            return self(q, v, c)[None]
        return jax.vmap(self, (0, 0, None))(windows(q), windows(v), c)


class Scalar(Local):
    r"""One number: a Lagrangian, Hamiltonian or potential; on a lattice the density of the middle site.

    N = y_0 + Σ_k s_k y_k² of 1 + `products` outputs y of the network, with signs s_k = +1, −1, +1, ...: products of features, such as energies are
    made of, at no further depth. By default there are none. Begun as small as y_0 they are found late or never, and the seeds of the relativistic
    particle differ sevenfold; on a lattice, where larger ones have made trainings diverge, they begin that small.
    """

    def __init__(self, spec: Spec, scales: Scales, shape: Shape, *, rngs: nnx.Rngs, velocity: bool = True, products: int = 0):
        super().__init__(spec, scales, 1 + products, shape, rngs=rngs, velocity=velocity)
        if products and not spec.lattice:
            last = self.layers[-1]
            last[...] = last[...].at[:, 1:].multiply(SQUARES)

    def __call__(self, q, v, c) -> Float[Array, ""]:
        y = super().__call__(q, v, c)
        return y[0] + (y[1::2] ** 2).sum() - (y[2::2] ** 2).sum()


class EnergyTerms(nnx.Module):
    r"""N(q, v, c), ½ uᵀ M(q, c) u and V(q, c), u = v / σ_v: what a learnt energy or Lagrangian is made of.

    N is a `Scalar`, which alone can be any function. M [dof, dof] is any symmetric matrix, which nothing keeps positive; M and V are read off one
    network of q and c alone, the form in which mechanics writes most energies. On a lattice, or without a `head`, N is all and the others are 0.
    """

    def __init__(self, spec: Spec, scales: Scales, shape: Shape, head: Shape | None, products: int, *, rngs: nnx.Rngs):
        self.dof, self.unit = spec.dof, scales.v
        self.free = Scalar(spec, scales, shape, rngs=rngs, products=products)
        outputs = spec.dof * (spec.dof + 1) // 2 + 1
        self.head = None if spec.lattice or head is None else Local(spec, scales, outputs, head, rngs=rngs, velocity=False)

    def __call__(self, q, v, c) -> tuple[Float[Array, ""], Float[Array, ""] | float, Float[Array, ""] | float]:
        N = self.free(q, v, c)
        if self.head is None:
            return N, 0.0, 0.0
        *M, V = self.head(q, None, c)
        u = v / jnp.array(self.unit, v.dtype)
        pairs = [(i, j) for i in range(self.dof) for j in range(i, self.dof)]
        T = sum((0.5 if i == j else 1.0) * M_ij * u[i] * u[j] for M_ij, (i, j) in zip(M, pairs, strict=True))
        return N, T, V
