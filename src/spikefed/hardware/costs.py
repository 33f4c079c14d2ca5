"""What one operation costs: the 45 nm table that the spiking literature uses, and memory costs, in picojoules.

==========  =====================  =======  ==========================================================================
numbers     MAC (multiply + add)   AC       source
==========  =====================  =======  ==========================================================================
FP32        3.7 + 0.9 = 4.6        0.9      Horowitz, "Computing's energy problem", ISSCC 2014
FP16        1.1 + 0.4 = 1.5        0.4      the same
INT32       3.1 + 0.1 = 3.2        0.1      the same; also the adder and multiplier of Lemaire et al. 2022
INT8        0.2 + 0.03 = 0.23      0.03     the same
==========  =====================  =======  ==========================================================================
"""

from __future__ import annotations

from dataclasses import dataclass

from spikefed.errors import ConfigError

MEMORY_PJ_PER_BYTE = 24.96
"""3.12 pJ per bit, whatever the size of the memory (the simple model with memory)."""

SRAM_PJ_PER_WORD = ((0.0, 0.0), (8 * 1024.0, 10.0), (32 * 1024.0, 20.0), (1024 * 1024.0, 100.0))
"""Size of an SRAM in bytes and pJ per 32-bit access; straight lines between the points (Lemaire et al. 2022)."""


@dataclass(frozen=True)
class Regime:
    """Energy of arithmetic on one kind of number, pJ.

    Attributes:
        name: kind of number.
        bits: of a number.
        multiply_pj: one multiplication.
        add_pj: one addition, also the AC of a spike.
    """

    name: str
    bits: int
    multiply_pj: float
    add_pj: float

    @property
    def mac_pj(self) -> float:
        """One multiply-accumulate."""
        return self.multiply_pj + self.add_pj

    def quantised_mac_pj(self, activation_bits: int) -> float:
        """MAC of such a weight with an activation of fewer bits: the multiplier shrinks in proportion, not the adder.

        An array multiplier has one row of adders per bit of one operand, so this is the usual first-order rule; it is
        ours, not from the table.
        """
        return self.multiply_pj * min(activation_bits, self.bits) / self.bits + self.add_pj


FP32 = Regime("fp32", 32, 3.7, 0.9)
FP16 = Regime("fp16", 16, 1.1, 0.4)
INT32 = Regime("int32", 32, 3.1, 0.1)
INT8 = Regime("int8", 8, 0.2, 0.03)
REGIMES = {regime.name: regime for regime in (FP32, FP16, INT32, INT8)}


def regime(name: str) -> Regime:
    """The regime called ``fp32``, ``fp16``, ``int32`` or ``int8``.

    Raises:
        ConfigError: another name.
    """
    if name not in REGIMES:
        raise ConfigError(f"number format '{name}' has no energy figures; use one of {', '.join(REGIMES)}")
    return REGIMES[name]


def sram_pj_per_word(capacity_bytes: float) -> float:
    """Energy of one 32-bit access to an SRAM of this size, at most that of 1 MB."""
    size = min(max(capacity_bytes, 0.0), SRAM_PJ_PER_WORD[-1][0])
    for (x0, y0), (x1, y1) in zip(SRAM_PJ_PER_WORD, SRAM_PJ_PER_WORD[1:], strict=False):
        if size <= x1:
            return y0 + (y1 - y0) * (size - x0) / (x1 - x0)
    return SRAM_PJ_PER_WORD[-1][1]
