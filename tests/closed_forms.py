"""The systems' equations written out by hand: independent witnesses of what the code derives by autodiff. They live in tests alone."""

import jax.numpy as jnp
import numpy as np


def pendulum_mass_matrix(s, q):
    """M(θ) = [[(m₁+m₂)l₁², m₂l₁l₂cosΔ], [m₂l₁l₂cosΔ, m₂l₂²]], Δ = θ₁ − θ₂."""
    coupling = s.m2 * s.l1 * s.l2 * jnp.cos(q[0] - q[1])
    return jnp.array([[(s.m1 + s.m2) * s.l1**2, coupling], [coupling, s.m2 * s.l2**2]])


def pendulum_potential(s, q):
    """V = m₁ g y₁ + m₂ g y₂, heights measured from the pivot."""
    y1 = -s.l1 * jnp.cos(q[0])
    y2 = y1 - s.l2 * jnp.cos(q[1])
    return s.g * (s.m1 * y1 + s.m2 * y2)


def pendulum_acceleration(s, q, v):
    """Both equations of motion solved for the angular accelerations, by elimination of one from the other."""
    (θ1, θ2), (ω1, ω2) = q, v
    sin, cos = np.sin(θ1 - θ2), np.cos(θ1 - θ2)
    bob = s.m1 + s.m2 * sin**2
    first = -s.m2 * sin * (s.l1 * ω1**2 * cos + s.l2 * ω2**2) + s.g * (s.m2 * np.sin(θ2) * cos - (s.m1 + s.m2) * np.sin(θ1))
    second = sin * ((s.m1 + s.m2) * s.l1 * ω1**2 + s.m2 * s.l2 * ω2**2 * cos) + s.g * (s.m1 + s.m2) * (np.sin(θ1) * cos - np.sin(θ2))
    return np.array([first / (s.l1 * bob), second / (s.l2 * bob)])


def pendulum_energy(s, q, v):
    """½ m₁|ṙ₁|² + ½ m₂|ṙ₂|² + V with the velocities of both masses in the plane."""
    arm1, arm2 = (length * ω * np.array([np.cos(θ), np.sin(θ)]) for length, θ, ω in zip((s.l1, s.l2), q, v, strict=True))
    return 0.5 * s.m1 * (arm1**2).sum() + 0.5 * s.m2 * ((arm1 + arm2) ** 2).sum() + pendulum_potential(s, q)


def pendulum_hamiltonian(s, q, p, c):
    """H = ½ pᵀM⁻¹p + V, the inverse written out."""
    cos = jnp.cos(q[0] - q[1])
    kinetic = s.m2 * (s.l2 * p[0]) ** 2 + (s.m1 + s.m2) * (s.l1 * p[1]) ** 2 - 2 * s.m2 * s.l1 * s.l2 * p[0] * p[1] * cos
    return kinetic / (2 * s.m2 * (s.l1 * s.l2) ** 2 * (s.m1 + s.m2 - s.m2 * cos**2)) + pendulum_potential(s, q)


def particle_acceleration(s, v, g):
    """q̈ = g(1−v²)^{3/2}; for the published Lagrangian g(1−v²)^{5/2}/(1+2v²)."""
    return g * (1 - v**2) ** 1.5 if s.variant == "physical" else g * (1 - v**2) ** 2.5 / (1 + 2 * v**2)


def particle_momentum(s, v):
    """γv; for the published Lagrangian γ³v."""
    γ = 1 / np.sqrt(1 - v**2)
    return γ * v if s.variant == "physical" else γ**3 * v


def particle_energy(s, q, v, g):
    """γ − g q; for the published Lagrangian (2v²−1)γ³ + 1 − g q."""
    γ = 1 / np.sqrt(1 - v**2)
    return (γ if s.variant == "physical" else (2 * v**2 - 1) * γ**3 + 1) - g * q


def particle_hamiltonian(s, q, p, c):
    """H = √(1+p²) − g q."""
    return jnp.sqrt(1 + p[0] ** 2) - c[0] * q[0]


def particle_motion(q0, p0, g, t):
    """(q, p) of the relativistic particle at time t, regular at g = 0 too: p = p₀ + g t, q = q₀ + t (p₀ + p)/(γ₀ + γ)."""
    p = p0 + g * t
    return q0 + t * (p0 + p) / (np.sqrt(1 + p0**2) + np.sqrt(1 + p**2)), p


def wave_acceleration(s, q):
    """q̈ᵢ = κ(qᵢ₊₁ − 2qᵢ + qᵢ₋₁)."""
    return np.array([s.kappa * (q[(i + 1) % len(q)] - 2 * q[i] + q[i - 1]) for i in range(len(q))])


def wave_energy(s, q, v):
    """Σ ½vᵢ² + ½κ(qᵢ₊₁ − qᵢ)²: every bond once."""
    return sum(0.5 * v[i] ** 2 + 0.5 * s.kappa * (q[(i + 1) % len(q)] - q[i]) ** 2 for i in range(len(q)))


def wave_hamiltonian(s, q, p, c):
    """Density ½pᵢ² + ¼κ[(qᵢ₊₁−qᵢ)² + (qᵢ−qᵢ₋₁)²] of the middle one of three sites."""
    return 0.5 * p[1] ** 2 + 0.25 * s.kappa * ((q[2] - q[1]) ** 2 + (q[1] - q[0]) ** 2)


def wave_motion(s, q0, v0, t):
    """(q, v) on the ring at time t: mode k swings at ω = 2√κ |sin(πk/N)|, the mean drifts."""
    q̂, v̂ = np.fft.fft(q0), np.fft.fft(v0)
    ω = 2 * np.sqrt(s.kappa) * np.abs(np.sin(np.pi * np.arange(len(q0)) / len(q0)))
    swung = np.divide(np.sin(ω * t), ω, out=np.full(len(q0), t), where=ω > 0)
    q, v = q̂ * np.cos(ω * t) + v̂ * swung, v̂ * np.cos(ω * t) - q̂ * ω * np.sin(ω * t)
    return np.fft.ifft(q).real, np.fft.ifft(v).real


def central_acceleration(s, q, v):
    """−(k + λr²) (x, y)."""
    return -(s.k + s.quartic * (q @ q)) * q


def polar_acceleration(s, q, v):
    """r̈ = rφ̇² − k r − λr³,   φ̈ = −2ṙφ̇/r."""
    (r, _), (radial, turning) = q, v
    return np.array([r * turning**2 - s.base.k * r - s.base.quartic * r**3, -2 * radial * turning / r])


def magnetic_acceleration(s, q, v):
    """ẍ = Bẏ − kx,   ÿ = −Bẋ − ky,   B = B₀(1 + x/ℓ)."""
    B = s.field_strength * (1 + q[0] / s.length)
    return np.array([B * v[1] - s.k * q[0], -B * v[0] - s.k * q[1]])


def quartic_acceleration(s, q, v):
    """[(1 + βv²) I + 2β v vᵀ]⁻¹ (−∇V) by the formula for a rank-one change of a multiple of the identity."""
    slope = np.array([s.k1 * q[0] + q[0] * q[1] ** 2, s.k2 * q[1] + q[1] * q[0] ** 2])
    m = 1 + s.beta * (v @ v)
    return -(slope - 2 * s.beta * v * (v @ slope) / (m + 2 * s.beta * (v @ v))) / m


def relative_acceleration(s, q, v):
    """(θ̈₁, θ̈₂ − θ̈₁) of the pendulum at (Q₁, Q₁ + Q₂)."""
    first, second = pendulum_acceleration(s.base, np.array([q[0], q[0] + q[1]]), np.array([v[0], v[0] + v[1]]))
    return np.array([first, second - first])


def magnetic_energy(s, q, v):
    """½v² + ½k r²: a magnetic field does no work."""
    return 0.5 * v @ v + 0.5 * s.k * q @ q


def quartic_energy(s, q, v):
    """½v² + ¾βv⁴ + V."""
    return 0.5 * v @ v + 0.75 * s.beta * (v @ v) ** 2 + 0.5 * (s.k1 * q[0] ** 2 + s.k2 * q[1] ** 2) + 0.5 * (q[0] * q[1]) ** 2
