"""Four scanners after the study's data table: the same head gives another image at each, by physics alone.

Field strength, sequence, echo and repetition time are the study's (the middle where it gives a range). What it does not
say (inversion time, flip angle, voxel size, coil, noise) is our choice, marked below. ADNI and GSEV share scanner and
protocol on paper and differ least.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

# Relaxation time T1 in ms and proton density, usual values for the two field strengths.
T1_MS = {1.5: {"white": 650, "grey": 1000, "fluid": 4000}, 3.0: {"white": 850, "grey": 1350, "fluid": 4300}}
PROTON_DENSITY = {"white": 0.70, "grey": 0.80, "fluid": 1.00}
DEEP_GREY_MYELIN = 0.45  # deep grey matter holds so much white matter
SCALP_SIGNAL, SKULL_SIGNAL = 0.95, 0.06  # relative to white matter: fat is bright, bone is dark

SCAN_CONTRAST_JITTER = 0.02  # from scan to scan at one site: coil loading, calibration
SCAN_FIELD_JITTER = 0.03
SCAN_GAIN_JITTER = 0.15


@dataclass(frozen=True)
class Scanner:
    """One site's scanner and T1-weighted protocol."""

    name: str
    vendor: str
    field_strength_t: float
    sequence: str  # MPRAGE: one inversion per repetition; TFE: a spoiled gradient echo
    echo_time_ms: float
    repetition_time_ms: float
    inversion_interval_ms: float  # our choice where the table gives the time between excitations
    inversion_time_ms: float  # our choice
    flip_angle_degrees: float  # our choice
    voxel_mm: tuple[float, float, float]  # our choice, at the harmonisation cohort's resolution
    point_spread_mm: float  # our choice: full width at half maximum
    noise: float  # our choice: standard deviation relative to white matter
    receive_field: tuple[float, ...]  # our choice: how log sensitivity varies, see `receive_field`
    intensity_scale: float  # our choice: white matter's mean in the stored image
    orientation: str  # how the scanner stores its axes


SCANNERS = {
    scanner.name: scanner
    for scanner in (
        Scanner(
            "SMC", "Philips", 3.0, "TFE", 4.6, 9.9, 0, 0, 20, (1.9, 1.9, 2.0), 2.0, 0.020,
            (0.02, -0.05, 0.04, -0.16, -0.13, -0.12), 620.0, "RAS",
        ),
        Scanner(
            "ADNI", "GE", 1.5, "MPRAGE", 3.95, 9.5, 2400, 1000, 8, (2.0, 2.0, 2.4), 2.6, 0.032,
            (-0.01, 0.14, -0.06, 0.05, 0.08, 0.04), 2900.0, "LIA",
        ),
        Scanner(
            "GSEV", "GE", 1.5, "MPRAGE", 3.95, 9.5, 2400, 960, 8, (2.0, 2.0, 2.4), 2.4, 0.036,
            (0.05, 0.04, -0.12, 0.09, 0.02, 0.09), 2500.0, "LAS",
        ),
        Scanner(
            "GMC", "Siemens", 3.0, "MPRAGE", 2.9, 1900, 1900, 900, 9, (2.0, 2.0, 2.0), 1.9, 0.024,
            (-0.04, -0.12, 0.10, -0.20, -0.16, -0.10), 410.0, "LIA",
        ),
    )
}  # fmt: skip


def tissue_signals(scanner: Scanner) -> dict[str, float]:
    """The signal of every tissue, white matter being 1."""
    times = T1_MS[scanner.field_strength_t]
    signal = {tissue: PROTON_DENSITY[tissue] * _signal(scanner, times[tissue]) for tissue in times}
    signal = {tissue: abs(value) / abs(signal["white"]) for tissue, value in signal.items()}
    signal["deep"] = (1 - DEEP_GREY_MYELIN) * signal["grey"] + DEEP_GREY_MYELIN
    return signal | {"skull": SKULL_SIGNAL, "scalp": SCALP_SIGNAL}


def _signal(scanner: Scanner, t1_ms: float) -> float:
    """Inversion recovery for MPRAGE, the steady state of a spoiled gradient echo (Ernst) for TFE."""
    if scanner.sequence == "MPRAGE":
        recovery = 1 + np.exp(-scanner.inversion_interval_ms / t1_ms)
        return 1 - 2 * np.exp(-scanner.inversion_time_ms / t1_ms) / recovery
    decay, flip = np.exp(-scanner.repetition_time_ms / t1_ms), np.deg2rad(scanner.flip_angle_degrees)
    return np.sin(flip) * (1 - decay) / (1 - decay * np.cos(flip))


def grid(scanner: Scanner, resolution: float, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, tuple]:
    """Affine and shape (RAS) of the scanner's grid over a box; `resolution` 1.5 makes every voxel 1.5 times as wide."""
    voxel = resolution * np.asarray(scanner.voxel_mm)
    affine = np.diag([*voxel, 1.0])
    affine[:3, 3] = low
    return affine, tuple(int(n) for n in np.floor((high - low) / voxel).astype(int) + 1)


def receive_field(coefficients: np.ndarray, affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Sensitivity over the head: the exponential of a sum of x, y, z, and x, y, z squared, each over 80 mm."""
    x, y, z = (
        (affine[a, 3] + affine[a, a] * np.arange(n) - centre) / 80.0
        for a, (n, centre) in enumerate(zip(shape, (0.0, -17.0, 14.0), strict=True))
    )
    c = coefficients
    along = (c[0] * x + c[3] * x**2, c[1] * y + c[4] * y**2, c[2] * z + c[5] * z**2)
    gx, gy, gz = (np.exp(part).astype(np.float32) for part in along)
    return gx[:, None, None] * gy[None, :, None] * gz[None, None, :]


def acquire(
    shares: dict[str, np.ndarray],
    scanner: Scanner,
    affine: np.ndarray,
    resolution: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Scan a head: contrast, sensitivity, point spread, Rician noise and scale, in that order."""
    signals = tissue_signals(scanner)
    jitter = 1 + SCAN_CONTRAST_JITTER * rng.normal(size=len(signals))
    image = sum(shares[tissue] * np.float32(s * j) for (tissue, s), j in zip(signals.items(), jitter, strict=True))
    coefficients = np.array(scanner.receive_field) + SCAN_FIELD_JITTER * rng.normal(size=6)
    image *= receive_field(coefficients, affine, image.shape)
    sigma_voxels = resolution * scanner.point_spread_mm / 2.355 / np.diag(affine)[:3]
    image = ndimage.gaussian_filter(image, sigma_voxels, truncate=3.0)
    noise = np.float32(scanner.noise) * rng.standard_normal(size=(2, *image.shape), dtype=np.float32)
    gain = scanner.intensity_scale * np.exp(SCAN_GAIN_JITTER * rng.normal())
    return np.float32(gain) * np.hypot(image + noise[0], noise[1])
