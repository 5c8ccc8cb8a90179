"""How fast a training will go before anybody has measured it: its arithmetic over the speed of its devices.

A guess to order the queue by and to say when about something ends. As soon as a step was measured, that counts and
this does not. Pure.
"""

from __future__ import annotations

from ftsched.shapes import Shape
from ftsched.trained import model_parameters, trained_parameters
from ftsched.workload import REFERENCED, Workload

# Dense 16-bit operations a second as the vendors state them, by a part of the name the driver gives. The longest part
# that is found counts.
_PEAKS = {
    "B200": 2.25e15,
    "H200": 9.9e14,
    "H100": 9.9e14,
    "H100 PCIE": 7.6e14,
    "H800": 9.9e14,
    "GH200": 9.9e14,
    "A100": 3.12e14,
    "A800": 3.12e14,
    "A40": 1.5e14,
    "A30": 1.65e14,
    "A10": 1.25e14,
    "L40": 1.8e14,
    "L40S": 3.6e14,
    "L20": 1.2e14,
    "L4": 1.2e14,
    "V100": 1.25e14,
    "T4": 6.5e13,
    "P100": 1.9e13,
    "RTX 6000 ADA": 3.6e14,
    "RTX A6000": 1.55e14,
    "RTX A5000": 1.1e14,
    "RTX 5090": 2.1e14,
    "RTX 4090": 1.65e14,
    "RTX 3090": 7.1e13,
}
# A GPU nobody has listed, and one core of a CPU in 32 bits.
UNKNOWN_GPU = 1e14
CPU_CORE = 2e10
# The share of that speed which a training reaches; between half and twice of it, as a rule.
REACHED = 0.35
UNCERTAINTY = 0.6


def token_operations(work: Workload, shape: Shape) -> float:
    """Floating-point operations of training on one token: forward, backward, and what is computed again.

    Two for each weight a token meets on its way forward, as many for the gradient of its inputs, and as many for each
    trained weight; and the attention to all tokens before it. Where nothing is trained there is only the way forward.
    """
    weights = model_parameters(work, shape) - shape.embedding * (0 if shape.tied else 1)
    if shape.experts is not None:
        idle = 3 * shape.hidden * shape.experts.width * (shape.experts.count - shape.experts.active)
        weights -= idle * (shape.layers - shape.dense_layers)
    attention = 2 * shape.layers * shape.query * work.sequence
    forward = 2.0 * weights + attention
    if not work.trains:
        return forward
    passes = 2 + work.recompute + (work.reference and work.stage in REFERENCED)
    return passes * forward + 2.0 * trained_parameters(work, shape)


def device_speed(name: str, cores: int = 0) -> float:
    """Operations a second that a training reaches on a device: a GPU by its name, or so many cores of a CPU."""
    if cores:
        return REACHED * cores * CPU_CORE
    upper = name.upper()
    found = [part for part in _PEAKS if part in upper]
    return REACHED * (_PEAKS[max(found, key=len)] if found else UNKNOWN_GPU)
