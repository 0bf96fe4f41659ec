r"""Force likelihood: how a Lagrangian learns from accelerations without dividing by its own mass matrix.

Put the true acceleration a into the Euler-Lagrange expression of the learnt L: r = A a + C v − ∂L/∂q, a force that vanishes for the true L.
If its n components are Laplace noise of scale b, the change of variables dr = A da gives the density of a,

    −log p(a) = ‖r‖₁/b + n log 2b − log|det A|,      with b at its optimum over the batch:  n log⟨|r|⟩ − ⟨log det A⟩ + const.

It is unchanged by L → cL and by total derivatives, has no pole, and − log det A is a barrier that keeps A positive definite.
Nearest in the literature, as far as we know: penalties on the signature of the Hessian (arXiv 2601.12519), and the Jacobian term of
full-information likelihood in econometrics.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

SHARPNESS = 20.0  # λ̃ = softplus(20 λ)/20 leaves eigenvalues above 0.2 as they are, to 1 %


def continued_log(λ: Float[Array, "..."]) -> Float[Array, "..."]:
    """log λ̃, λ̃ = softplus(20 λ)/20 > 0: log λ for λ ≫ 1/20, and 20 λ − log 20 below zero, where log λ has no value but A must find the way back."""
    below = λ < -0.5  # softplus underflows there: log softplus(y) = y to first order
    inner = jnp.where(below, -0.5, λ)
    return jnp.where(below, SHARPNESS * λ, jnp.log(jax.nn.softplus(SHARPNESS * inner))) - jnp.log(SHARPNESS)


def trace_of(function, A: Float[Array, "n n"]) -> Float[Array, ""]:
    """Σ f(λ_i) over the eigenvalues of a symmetric matrix, with a derivative that is defined where eigenvalues meet."""
    if A.shape[-1] == 1:
        return function(A[0, 0])
    if A.shape[-1] == 2:
        middle, half_gap = (A[0, 0] + A[1, 1]) / 2, (A[0, 0] - A[1, 1]) / 2
        radius = jnp.sqrt(half_gap**2 + A[0, 1] ** 2 + jnp.finfo(A.dtype).tiny ** 0.5)
        return function(middle + radius) + function(middle - radius)

    @jax.custom_jvp
    def trace(A):
        return function(jnp.linalg.eigvalsh(A)).sum()

    @trace.defjvp
    def derivative(primals, tangents):
        λ, U = jnp.linalg.eigh(primals[0])
        slope = jax.vmap(jax.grad(function))(λ)
        return function(λ).sum(), ((U * slope) @ U.T * tangents[0]).sum()

    return trace(A)


def force_likelihood(A: Float[Array, "k n n"], r: Float[Array, "m n"], log=continued_log, pin: bool = True) -> Float[Array, ""]:
    """n log⟨|r|⟩ − ⟨Σ log λ̃⟩, for force residuals r of m states and mass matrices A of some of them, in coordinates of unit velocity spread.

    λ̃ is finite at λ = 0, which makes L → 0 an optimum again, so the scale is pinned by relu(−⟨Σ log λ̃⟩)²: for A = s·I the loss is flat above
    s = 1 and rises below it to a barrier near s = 0.01, on whose far side it falls; training starts at s = 1. `log=jnp.log, pin=False` is the
    exact density up to a constant, for positive definite A. With few A the square of the pin is a little larger on average than with all.
    """
    n = r.shape[-1]
    log_det = jax.vmap(lambda A: trace_of(log, A))(A).mean()
    return n * jnp.log(jnp.abs(r).mean()) - log_det + pin * jax.nn.relu(-log_det) ** 2
