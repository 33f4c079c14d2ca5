"""Device kernels of the fused normalisation + LIF + pool, in Triton; launched by ``gpu.py``.

Layout as in native/norm_lif.h: x is [T, S, C] (channels-last rows), spikes [T, S, C] or [T, S / 4, C] when pooled. A
program owns a tile of rows and channels for all T steps: membranes stay in registers, backward computes them again.
``K`` is 4 when pooling (the 2x2 neurons under one output) and 1 when not. No atomics: sums leave as one partial per
tile, so results repeat bit for bit.
"""

# pyright: basic, reportIndexIssue=false, reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportAttributeAccessIssue=false, reportMissingImports=false, reportOptionalMemberAccess=false

import triton
import triton.language as tl


@triton.jit
def _rows(r, H, W, K: tl.constexpr):
    """Input rows [K, R] under the output rows ``r`` [R]."""
    k = tl.arange(0, K)[:, None]
    if K == 1:
        return k + r[None, :]
    half = W // 2
    w = r % half
    h = r // half % (H // 2)
    b = r // (half * (H // 2))
    return (b * H + 2 * h)[None, :] * W + 2 * w[None, :] + k // 2 * W + k % 2


@triton.jit
def _normalised(x_ptr, at, ok, mean_ptr, gain_ptr, bias_ptr, group, C, c, NORM: tl.constexpr):
    """Normalised current of one step, float32 [K, R, CB]."""
    y = tl.load(x_ptr + at, mask=ok, other=0.0).to(tl.float32)
    if NORM:
        lane = group * C + c
        inside = c < C
        mean = tl.load(mean_ptr + lane, mask=inside, other=0.0)[None, None, :]
        gain = tl.load(gain_ptr + lane, mask=inside, other=0.0)[None, None, :]
        bias = tl.load(bias_ptr + lane, mask=inside, other=0.0)[None, None, :]
        y = (y - mean) * gain + bias
    return y


@triton.jit(do_not_specialize=["S", "out_rows"])  # a size of 1 must stay a number
def lif_forward(
    x_ptr, out_ptr, mean_ptr, gain_ptr, bias_ptr, S, out_rows, C, H, W, decay, fire, theta, current,
    T: tl.constexpr, NORM: tl.constexpr, PER_STEP: tl.constexpr, SOFT: tl.constexpr, REPEAT: tl.constexpr,
    K: tl.constexpr, R: tl.constexpr, CB: tl.constexpr,
):  # fmt: skip
    """Spikes (means of four, if pooled) of all T steps.

    Args:
        x_ptr, out_ptr: currents ``[T, S, C]`` (``[S, C]`` with REPEAT) and spikes, channels last.
        mean_ptr, gain_ptr, bias_ptr: ``[C]``, or ``[T, C]`` with PER_STEP.
        S, out_rows, C, H, W: pixels of a step, rows of the output, channels, height, width.
        decay, fire, theta, current: numbers of the neuron.
        T, NORM, PER_STEP, SOFT, REPEAT: steps; what is compiled in.
        K, R, CB: pooling window, rows and channels of a tile.
    """
    r = tl.program_id(0) * R + tl.arange(0, R)
    c = tl.program_id(1) * CB + tl.arange(0, CB)
    ok = (r < out_rows)[None, :, None] & (c < C)[None, None, :]
    at = _rows(r, H, W, K)[:, :, None].to(tl.int64) * C + c[None, None, :]
    to = r[:, None].to(tl.int64) * C + c[None, :]
    inside = (r < out_rows)[:, None] & (c < C)[None, :]
    ok = ok & (tl.arange(0, K)[:, None, None] >= 0)
    v = tl.zeros([K, R, CB], dtype=tl.float32)
    for t in tl.static_range(T):
        here = at if REPEAT else at + S.to(tl.int64) * C * t
        y = _normalised(x_ptr, here, ok, mean_ptr, gain_ptr, bias_ptr, t if PER_STEP else 0, C, c, NORM)
        u = decay * v + current * y
        fired = u >= fire
        v = tl.where(fired, u - theta, u) if SOFT else tl.where(fired, 0.0, u)
        o = tl.sum(fired.to(tl.float32), axis=0) * (1.0 / K)
        tl.store(out_ptr + to + out_rows.to(tl.int64) * C * t, o.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _window(x, sa, sb, SURROGATE: tl.constexpr):
    """The surrogate's derivative: 0 rectangle, 1 triangle, 2 arctangent (constants as in ``Surrogate.constants``)."""
    if SURROGATE == 0:
        return tl.where(tl.abs(x) < sa, sb, 0.0)
    if SURROGATE == 1:
        return tl.maximum(1.0 - tl.abs(x) / sa, 0.0) * sb
    return sb / (1.0 + (sa * x) * (sa * x))


@triton.jit
def _through_spike(u, go, later, fire, theta, sa, sb, keep, SOFT: tl.constexpr, SURROGATE: tl.constexpr):
    """Gradient of the membrane before its reset, from that of its spike and of the potential carried on."""
    if SOFT:
        h = _window(u / theta - 1.0, sa, sb, SURROGATE) / theta
        d = h * (go - keep * later * theta) + later
    else:
        h = _window(u - theta, sa, sb, SURROGATE)
        d = h * (go - keep * later * u) + tl.where(u >= fire, 0.0, later)
    return d


@triton.jit
def _sums(dy, x_ptr, here, ok, mean_ptr, rstd_ptr, lane, C, c):
    """A tile's sums [CB] of dy and of dy * xhat."""
    mean = tl.load(mean_ptr + lane, mask=c < C, other=0.0)[None, None, :]
    rstd = tl.load(rstd_ptr + lane, mask=c < C, other=0.0)[None, None, :]
    x = tl.load(x_ptr + here, mask=ok, other=0.0).to(tl.float32)
    a1 = tl.sum(tl.sum(dy, axis=0), axis=0)
    a2 = tl.sum(tl.sum(dy * ((x - mean) * rstd), axis=0), axis=0)
    return a1, a2


@triton.jit
def _store_sums(to_ptr, a1, a2, C, c):
    """Both sums of a tile at their place."""
    tl.store(to_ptr, a1, mask=c < C)
    tl.store(to_ptr + C, a2, mask=c < C)


@triton.jit(do_not_specialize=["S", "out_rows"])  # a size of 1 must stay a number
def lif_backward(
    x_ptr, go_ptr, dx_ptr, partial_ptr, mean_ptr, rstd_ptr, gain_ptr, bias_ptr,
    S, out_rows, C, H, W, decay, fire, theta, current, sa, sb, keep,
    T: tl.constexpr, NORM: tl.constexpr, PER_STEP: tl.constexpr, SOFT: tl.constexpr, REPEAT: tl.constexpr,
    SCALED: tl.constexpr, SURROGATE: tl.constexpr, K: tl.constexpr, R: tl.constexpr, CB: tl.constexpr,
):  # fmt: skip
    """Gradient of the normalised currents (times the gain when SCALED) and, per tile, its sums for the statistics.

    ``partial`` [tiles, T or 1, 2, C]: sums of dy and of dy * xhat.

    Args:
        x_ptr, go_ptr, dx_ptr: currents ``[T, S, C]`` (``[S, C]`` with REPEAT), gradient of the spikes, result.
        partial_ptr: sums of every tile.
        mean_ptr, rstd_ptr, gain_ptr, bias_ptr: ``[C]``, or ``[T, C]`` with PER_STEP.
        S, out_rows, C, H, W: pixels of a step, rows of the output, channels, height, width.
        decay, fire, theta, current: numbers of the neuron.
        sa, sb, keep: numbers of the surrogate; whether the reset passes gradient.
        T, NORM, PER_STEP, SOFT, REPEAT, SCALED, SURROGATE: steps; what is compiled in.
        K, R, CB: pooling window, rows and channels of a tile.
    """
    r = tl.program_id(0) * R + tl.arange(0, R)
    c = tl.program_id(1) * CB + tl.arange(0, CB)
    ok = (r < out_rows)[None, :, None] & (c < C)[None, None, :]
    ok = ok & (tl.arange(0, K)[:, None, None] >= 0)
    at = _rows(r, H, W, K)[:, :, None].to(tl.int64) * C + c[None, None, :]
    from_ = r[:, None].to(tl.int64) * C + c[None, :]
    inside = (r < out_rows)[:, None] & (c < C)[None, :]
    step = S.to(tl.int64) * C
    v = tl.zeros([K, R, CB], dtype=tl.float32)
    us = ()
    for t in tl.static_range(T):  # membranes again
        y = _normalised(
            x_ptr, at if REPEAT else at + step * t, ok, mean_ptr, gain_ptr, bias_ptr, t if PER_STEP else 0, C, c, NORM
        )
        u = decay * v + current * y
        us = us + (u,)
        v = tl.where(u >= fire, u - theta, u) if SOFT else tl.where(u >= fire, 0.0, u)
    later = tl.zeros([K, R, CB], dtype=tl.float32)  # dL/dv
    total = tl.zeros([K, R, CB], dtype=tl.float32)
    s1 = tl.zeros([CB], dtype=tl.float32)
    s2 = tl.zeros([CB], dtype=tl.float32)
    groups: tl.constexpr = T if PER_STEP else 1
    for t in tl.static_range(T - 1, -1, -1):
        u = us[t]
        go = tl.load(go_ptr + from_ + out_rows.to(tl.int64) * C * t, mask=inside, other=0.0).to(tl.float32)
        go = go[None, :, :] * (1.0 / K)
        d = _through_spike(u, go, later, fire, theta, sa, sb, keep, SOFT, SURROGATE)
        later = decay * d
        dy = tl.where(ok, current * d, 0.0)
        here = at if REPEAT else at + step * t
        if NORM:
            group = t if PER_STEP else 0
            lane = group * C + c
            a1, a2 = _sums(dy, x_ptr, here, ok, mean_ptr, rstd_ptr, lane, C, c)
            if PER_STEP:
                _store_sums(partial_ptr + (tl.program_id(0) * groups + t) * 2 * C + c, a1, a2, C, c)
            else:
                s1 += a1
                s2 += a2
            if SCALED:
                dy = dy * tl.load(gain_ptr + lane, mask=c < C, other=0.0)[None, None, :]
        if REPEAT:
            total += dy
        else:
            tl.store(dx_ptr + here, dy.to(dx_ptr.dtype.element_ty), mask=ok)
    if REPEAT:
        tl.store(dx_ptr + at, total.to(dx_ptr.dtype.element_ty), mask=ok)
    if NORM and not PER_STEP:
        _store_sums(partial_ptr + tl.program_id(0) * 2 * C + c, s1, s2, C, c)


@triton.jit
def moments(x_ptr, partial_ptr, rows, C, span, R: tl.constexpr, CB: tl.constexpr):
    """Per chunk of ``span`` rows (a multiple of R) of one group: sum and sum of squares of x - (the group's first row).

    ``partial`` [groups, chunks, 2, C].

    Args:
        x_ptr: currents ``[groups * rows, C]``.
        partial_ptr: result ``[groups, chunks, 2, C]``.
        rows: of a group.
        C: channels.
        span: rows of a chunk.
        R, CB: rows and channels of a tile.
    """
    chunk = tl.program_id(0)
    g = tl.program_id(1)
    c = tl.program_id(2) * CB + tl.arange(0, CB)
    first = g.to(tl.int64) * rows * C
    shift = tl.load(x_ptr + first + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
    s1 = tl.zeros([R, CB], dtype=tl.float32)
    s2 = tl.zeros([R, CB], dtype=tl.float32)
    for begin in range(0, span, R):
        r = chunk * span + begin + tl.arange(0, R)
        ok = (r < rows)[:, None] & (c < C)[None, :]
        x = tl.load(x_ptr + first + r[:, None].to(tl.int64) * C + c[None, :], mask=ok, other=0.0).to(tl.float32)
        d = tl.where(ok, x - shift, 0.0)
        s1 += d
        s2 += d * d
    base = (g * tl.num_programs(0) + chunk) * 2 * C + c
    tl.store(partial_ptr + base, tl.sum(s1, axis=0), mask=c < C)
    tl.store(partial_ptr + base + C, tl.sum(s2, axis=0), mask=c < C)


@triton.jit
def finish(x_ptr, dx_ptr, mean_ptr, a_ptr, b_ptr, d_ptr, rows, C, R: tl.constexpr, CB: tl.constexpr):
    """dx = A * dx + B * (x - mean) + D, in place; one set of numbers [C] per group of ``rows`` rows.

    Args:
        x_ptr, dx_ptr: currents and gradient ``[groups * rows, C]``.
        mean_ptr, a_ptr, b_ptr, d_ptr: ``[groups, C]``.
        rows: of a group.
        C: channels.
        R, CB: rows and channels of a tile.
    """
    g = tl.program_id(1)
    r = tl.program_id(0) * R + tl.arange(0, R)
    c = tl.program_id(2) * CB + tl.arange(0, CB)
    ok = (r < rows)[:, None] & (c < C)[None, :]
    at = (g.to(tl.int64) * rows + r[:, None]) * C + c[None, :]
    lane = g * C + c
    x = tl.load(x_ptr + at, mask=ok, other=0.0).to(tl.float32)
    dx = tl.load(dx_ptr + at, mask=ok, other=0.0).to(tl.float32)
    a = tl.load(a_ptr + lane, mask=c < C, other=0.0)[None, :]
    b = tl.load(b_ptr + lane, mask=c < C, other=0.0)[None, :]
    d = tl.load(d_ptr + lane, mask=c < C, other=0.0)[None, :]
    mean = tl.load(mean_ptr + lane, mask=c < C, other=0.0)[None, :]
    tl.store(dx_ptr + at, (a * dx + b * (x - mean) + d).to(dx_ptr.dtype.element_ty), mask=ok)


@triton.jit
def pack_bits(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """One bit per element (1 = not zero), eight to a byte, the first in the lowest bit. ``n``: elements of x.

    Args:
        x_ptr: elements.
        out_ptr: bytes ``[ceil(n / 8)]``.
        n: elements of x.
        BLOCK: bytes a program writes.
    """
    byte = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    bit = tl.arange(0, 8)[None, :]
    at = byte[:, None].to(tl.int64) * 8 + bit
    x = tl.load(x_ptr + at, mask=at < n, other=0.0)
    packed = tl.sum(tl.where(x != 0, 1, 0) << bit, axis=1)
    tl.store(out_ptr + byte, packed.to(tl.uint8), mask=byte.to(tl.int64) * 8 < n)


@triton.jit
def unpack_bits(packed_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """Inverse of `pack_bits`: zeros and ones in the type of ``out``.

    Args:
        packed_ptr: bytes ``[ceil(n / 8)]``.
        out_ptr: elements.
        n: elements of the result.
        BLOCK: bytes a program reads.
    """
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    packed = tl.load(packed_ptr + at // 8, mask=at < n, other=0).to(tl.int32)
    value = (packed >> (at % 8).to(tl.int32)) & 1
    tl.store(out_ptr + at, value.to(out_ptr.dtype.element_ty), mask=at < n)
