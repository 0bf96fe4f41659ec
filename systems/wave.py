"""Wave equation on a ring of sites, in grid units."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from systems import Adams, Recording, Spec, System


@dataclass(frozen=True)
class Wave(System):
    r"""ℓ_i = ½v_i² − ¼κ[(q_{i+1}−q_i)² + (q_i−q_{i−1})²],   v̇_i = κ(q_{i+1} − 2q_i + q_{i−1})

    φ_tt = c²φ_xx with the grid spacing and c/√κ as units. q_i is the field at site i; the functions serve rings of any number of sites.
    Source: Cranmer et al. 2020, section 5 (ring of 100). Its central-difference density would decouple odd and even sites; this one does not.
    Trained on small rings, evaluated on large ones.
    """

    kappa: float = 1.0
    sites: int = 16  # of a training ring
    evaluation_sites: int = 100

    spec = Spec(dof=1, lattice=True)
    # frames of 0.25: at 1 even the best linear three-site step map is unstable. horizon: 3.5 passes around 100 sites.
    # Two evaluations a step, since with one the shortest waves grow at any step worth taking. With shorter steps than these learnt energies change no
    # less (1e-6, by rounding in single precision)
    recording = Recording(
        trajectories=1500,
        duration=10.0,
        frame=0.25,
        starts=16,
        horizon=350.0,
        evaluation_frame=0.5,
        substeps=3,
        window=100.0,
        integrator=Adams(6, evaluations=2),
    )

    def lagrangian(self, q, v, c):
        left, right = q[1] - q[0], q[2] - q[1]
        return 0.5 * v[1] ** 2 - 0.25 * self.kappa * (left**2 + right**2)

    def sample_initial(self, key):
        """Fields with random Fourier spectra below a random cut-off, so that smooth and rough ones both occur; rms about 0.3."""
        return self._random_field(key, self.sites), jnp.zeros(0)

    def sample_state(self, key):
        """The same law."""
        return self.sample_initial(key)

    def sample_evaluation(self, key, index):
        """Start 0 is the published pulse exp(−(x−½)²/2/0.05²) at rest, x = i/N; the others are sums of two pulses, the second absent in
        half of them, of random height, width, place and share of velocity: q = f, v = s f' with s ~ U[−1, 1] (1: it travels).
        """
        x = jnp.arange(self.evaluation_sites) / self.evaluation_sites

        def pulse(height, width, place, share):
            distance = (x - place + 0.5) % 1 - 0.5
            shape = height * jnp.exp(-0.5 * (distance / width) ** 2)
            slope = -distance / width**2 * shape / self.evaluation_sites
            return jnp.stack([shape, share * self.kappa**0.5 * slope])

        draw = jax.random.uniform(key, (2, 4))
        height, width = 0.5 + 0.5 * draw[:, 0], 0.04 + 0.04 * draw[:, 1]
        place, share = draw[:, 2], 2 * draw[:, 3] - 1
        first, second = jax.vmap(pulse)(height, width, place, share)
        published = pulse(1.0, 0.05, 0.5, 0.0)
        return jnp.where(index == 0, published, first + (index % 2) * second), jnp.zeros(0)

    def symmetries(self):
        """A shift of the whole field: its charge is Σ v_i."""
        return {"shift": lambda q: jnp.ones_like(q)}

    def false_symmetries(self):
        """A stretching of the field."""
        return {"stretching": lambda q: q}

    def paper(self):
        """Trained on rings of 10 sites."""
        return replace(self, sites=10)

    def energy_scale(self, x, c):
        """Each trajectory's own energy at the start."""
        return jax.vmap(self.energy)(x, c)

    def _random_field(self, key, sites):
        key_cut, key_phase = jax.random.split(key)
        k = jnp.arange(sites // 2 + 1)
        cut = jax.random.uniform(key_cut, (), minval=0.5, maxval=sites / 2)
        amplitude = jnp.exp(-0.5 * (k / cut) ** 2)
        real, imaginary = jax.random.normal(key_phase, (2, 2, k.size))
        q, v = jnp.fft.irfft(amplitude * (real + 1j * imaginary), n=sites)
        return jnp.stack([q, v])


SYSTEM = Wave()
