"""No test holds a clock or processor time to a bound: machines differ and are busy. Benchmarks say how fast things are.

Limits of time that remain end what hangs (pytest's own, subprocesses', waits for a page); they are many times what a
slow machine needs.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Hypothesis would fail an example of more than 200 ms, and a slow generator.
settings.register_profile("spikefed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("spikefed")
