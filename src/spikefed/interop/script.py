"""A network as one plain Python script: torch and nothing else, its weights in the same file.

The script's network is built of ``nn.Conv2d``, ``nn.Linear``, pools and a loop over time steps, so that whatever
understands such modules understands it: ``torch.export``, ``torch.jit.trace``, pruning and inspection tools. It trains
too: spikes keep their surrogate gradient.
"""

from __future__ import annotations

import base64
import textwrap
import zlib
from importlib.resources import files

import numpy as np

from spikefed.errors import ConfigError
from spikefed.interop.about import About
from spikefed.interop.flat import Flat, FlatNode
from spikefed.networks.graph import INPUT
from spikefed.neurons import ATan, LIFParameters, Rectangle, SendOnDelta, Surrogate, Triangle

_TEMPLATE = "network.py.txt"


def script(network: Flat, about: About) -> str:
    """The text of the script; equal networks give equal texts.

    Raises:
        ConfigError: a surrogate that the script cannot spell.
    """
    template = files("spikefed.interop").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    body = {
        "TITLE": about.origin.replace('"', "'").replace("\\", "/"),
        "CLASSES": repr(tuple(about.class_names)),
        "SHAPE": repr(network.input_shape),
        "STEPS": str(network.steps),
        "PREPROCESS": _preprocess(about),
        "SURROGATES": _surrogates(network),
        "ENCODE": _encode(network),
        "LAYERS": _layers(network),
        "FORWARD": _forward(network, about.timed),
        "NAMES": "".join(f'    ("{name}", {array.shape}),\n' for name, array in arrays(network)).rstrip(),
        "WEIGHTS": _weights(network),
    }
    for key, text in body.items():
        template = template.replace(f"@{key}@", text)
    return template


def variable(name: str) -> str:
    """A node's name as Python and C take it."""
    return name.replace(".", "_")


def _preprocess(about: About) -> str:
    told = about.preprocess
    if told.mode == "raw":
        return "images.float()"
    if told.mode == "unit":
        return "images.float() / 255.0"
    if told.mode == "signed":
        return "images.float() / 127.5 - 1.0"
    mean = list(told.mean)
    std = list(told.std)
    return f"(images.float() - torch.tensor({mean}).view(-1, 1, 1)) / torch.tensor({std}).view(-1, 1, 1)"


def _gradient(shape: Surrogate) -> str:
    """A surrogate's derivative in torch's words."""
    if isinstance(shape, Rectangle):
        return f"(x.abs() < {shape.width / 2}).to(x.dtype) * {shape.peak}"
    if isinstance(shape, Triangle):
        return f"(1 - x.abs() / {shape.width}).clamp(min=0) * {shape.gamma}"
    if isinstance(shape, ATan):
        return f"{shape.alpha / 2} / (1 + (math.pi / 2 * {shape.alpha} * x) ** 2)"
    raise ConfigError(f"surrogate '{shape}' cannot be written into a script; use rectangle, triangle or atan")


def _neurons(network: Flat) -> list[LIFParameters]:
    """The different neurons, in order of appearance."""
    return list(dict.fromkeys(node.neuron for node in network.nodes if node.neuron is not None))


def _surrogates(network: Flat) -> str:
    text = []
    shapes = list(dict.fromkeys((p.surrogate, p.strict) for p in _neurons(network)))
    for index, (shape, strict) in enumerate(shapes):
        text.append(
            f"class Spike{index or ''}(torch.autograd.Function):\n"
            f'    """1 above the threshold; backward: {shape}."""\n\n'
            "    @staticmethod\n"
            "    def forward(ctx, x):\n"
            f"        ctx.save_for_backward(x)\n        return (x {'>' if strict else '>='} 0).to(x.dtype)\n\n"
            "    @staticmethod\n"
            "    def backward(ctx, grad):\n"
            "        (x,) = ctx.saved_tensors\n"
            f"        return grad * ({_gradient(shape)})\n\n\n"
        )
    for index, neuron in enumerate(_neurons(network)):
        text.append(_lif(index, neuron, shapes.index((neuron.surrogate, neuron.strict))))
    return "".join(text).rstrip() + "\n" if text else ""


def _lif(index: int, neuron: LIFParameters, spike: int) -> str:
    gain = "" if neuron.gain == 1.0 else f"{neuron.gain!r} * "
    theta = repr(neuron.v_threshold)
    kept = "o.detach()" if neuron.detach_reset else "o"
    distance = f"u - {theta}" if neuron.kind == "hard" else f"u / {theta} - 1"
    reset = f"u * (1 - {kept})" if neuron.kind == "hard" else f"u - {theta} * {kept}"
    kind = "reset to 0" if neuron.kind == "hard" else "threshold subtracted"
    return (
        f"class LIF{index or ''}(nn.Module):\n"
        f'    """Leaky integrate and fire, decay {neuron.decay:g}, threshold {neuron.v_threshold:g}, {kind}."""\n\n'
        "    def forward(self, current, v):\n"
        f"        u = {gain}current if v is None else {neuron.decay!r} * v + {gain}current\n"
        f"        o = Spike{spike or ''}.apply({distance})\n"
        f"        return o, {reset}\n\n\n"
    )


def _encode(network: Flat) -> str:
    coder = network.encoder
    if coder.name == "direct":
        return (
            "    if x.ndim == 5:  # [B, T, C, H, W]: data with time steps of their own\n"
            "        return x.transpose(0, 1)\n"
            "    return x  # the same input at every step"
        )
    series = (
        "    if x.ndim == 4:\n        x = x.unsqueeze(1).expand(-1, steps, -1, -1, -1)\n    x = x.transpose(0, 1)\n"
    )
    if coder.name == "bernoulli":
        return f"{series}    return (x > torch.rand(x.shape, generator=generator)).to(x.dtype)"
    if coder.name == "poisson":
        return f"{series}    return x.sign() * (2 * torch.rand(x.shape, generator=generator) <= x.abs()).to(x.dtype)"
    if coder.name == "latency":
        return (
            "    at = (1 - x.clamp(0, 1)) * (steps - 1)\n"
            "    time = torch.arange(steps, dtype=x.dtype, device=x.device).view(-1, *[1] * x.ndim)\n"
            "    return ((at.round() == time) & (x > 0)).to(x.dtype)"
        )
    assert isinstance(coder, SendOnDelta)
    cut = "both" if coder.graded else "both.clamp(max=1)"
    return textwrap.indent(
        "x = x.transpose(0, 1)\n"
        "folded = x.shape[3] == 1 and x.shape[4] > 1  # the width is time within a step\n"
        "samples = x.permute(0, 4, 1, 2, 3).flatten(0, 1) if folded else x\n"
        "reference, spikes = samples[0], []\n"
        "for sample in samples:\n"
        f"    crossed = torch.trunc((sample - reference) / {coder.threshold!r})\n"
        f"    reference = reference + crossed * {coder.threshold!r}\n"
        "    both = torch.cat([crossed.clamp(min=0), (-crossed).clamp(min=0)], dim=1)\n"
        f"    spikes.append({cut})\n"
        "spikes = torch.stack(spikes)\n"
        "return spikes.unflatten(0, (len(x), -1)).permute(0, 2, 3, 4, 1) if folded else spikes",
        "    ",
    )


def _layers(network: Flat) -> str:
    lines = []
    neurons = _neurons(network)
    for node in network.nodes:
        name = variable(node.name)
        bias = node.shift is not None and node.gain is None
        if node.kind == "conv":
            sides = (node.kernel_size, node.strides, node.padding)
            kernel, stride, padding = sides if node.line else (node.kernel, node.stride, node.kernel // 2)
            around = f"stride={stride}, padding={padding}, bias={bias}"
            lines.append(f"self.{name} = nn.Conv2d({node.in_shape[0]}, {node.map_shape[0]}, {kernel}, {around})")
        elif node.kind == "linear":
            inputs = int(np.prod(node.in_shape))
            lines.append(f"self.{name} = nn.Linear({inputs}, {node.map_shape[0]}, bias={bias})")
        if node.gain is not None and node.shift is not None:
            shape = list(node.gain.shape)
            lines.append(f'self.register_buffer("{name}_gain", torch.ones({shape}))  # a row for each time step')
            lines.append(f'self.register_buffer("{name}_shift", torch.zeros({shape}))')
        if node.neuron is not None:
            lines.append(f"self.{name}_neuron = LIF{neurons.index(node.neuron) or ''}()")
        elif node.rectify:
            lines.append(f"self.{name}_neuron = nn.ReLU()")
        if node.pool is not None:
            lines.append(f"self.{name}_pool = {_pool(node)}")
    return textwrap.indent("\n".join(lines), " " * 8)


def _pool(node: FlatNode) -> str:
    assert node.pool is not None
    kind = "nn.AvgPool2d" if node.pool.kind == "average" else "nn.MaxPool2d"
    if node.pool.size == 0:
        return f"{kind}({tuple(node.map_shape[1:])})"
    if node.pool.line:
        return f"{kind}({node.pool.windows}, stride={node.pool.strides})"
    return f"{kind}({node.pool.size}, stride={node.pool.stride or node.pool.size}, padding={node.pool.padding})"


def _forward(network: Flat, timed: bool) -> str:
    """The lines of a call: what needs computing once, then the loop over time steps."""
    still = network.encoder.name == "direct" and not timed
    once: list[str] = []
    each: list[str] = []
    for node in network.nodes:
        name = variable(node.name)
        hoisted = still and node.once
        lines = once if hoisted else each
        in_time = _in_time(node)
        lines.append(f"{name} = {_currents(node, 'x' if still else 'x[t]')}")
        if hoisted and in_time:  # the loop needs the currents at every step, under a name of their own
            once[-1] = f"{name}_current = {_currents(node, 'x')}"
            in_time[0] = in_time[0].replace(f"({name}", f"({name}_current", 1)
            each += in_time
        else:
            lines += in_time
        if node.pool is not None or node.rectify:
            (once if hoisted and not in_time else each).extend(_after(node))
    back = sorted({variable(s.name) for node in network.nodes for s in node.sources if s.back})
    lines = [*once, "v, outputs = {}, []", *(["before = {}  # what edges backward in time bring"] if back else [])]
    lines += ["for t in range(self.steps):", *(f"    {line}" for line in each)]
    lines.append(f"    outputs.append({variable(network.output)})")
    if back:
        lines.append(f"    before = {{{', '.join(f'{chr(34)}{name}{chr(34)}: {name}' for name in back)}}}")
    return textwrap.indent("\n".join(lines), " " * 8)


def _currents(node: FlatNode, image: str) -> str:
    """What enters, through the weights."""
    forward = [image if s.name == INPUT else variable(s.name) for s in node.sources if not s.back]
    back = [variable(s.name) for s in node.sources if s.back]
    if back and not forward:
        first, *back = back
        forward = [f'before.get("{first}", torch.zeros(batch, *{node.in_shape}))']
    entering = " + ".join(forward)
    if back:
        entering = f"plus({entering}, " + ", ".join(f'before.get("{name}")' for name in back) + ")"
    if node.kind == "pass":
        return entering if node.votes == 1 else f"({entering}).unflatten(1, ({node.map_shape[0]}, -1)).mean(2)"
    if node.kind == "linear" and len(node.in_shape) > 1:
        entering = f"{entering}.flatten(1)" if len(forward) == 1 and not back else f"({entering}).flatten(1)"
    return f"self.{variable(node.name)}({entering})"


def _in_time(node: FlatNode) -> list[str]:
    """Lines that differ from step to step: a norm of each step, and the neurons."""
    name = variable(node.name)
    lines = []
    if node.gain is not None:
        row = "t" if len(node.gain) > 1 else "0"
        shape = "(-1, 1, 1)" if len(node.map_shape) == 3 else "(-1)"
        gain, shift = (f"self.{name}_{part}[{row}].view{shape}" for part in ("gain", "shift"))
        lines.append(f"{name} = ({name} * {gain}) + {shift}")
    if node.neuron is not None:
        lines.append(f'{name}, v["{name}"] = self.{name}_neuron({name}, v.get("{name}"))')
    return lines


def _after(node: FlatNode) -> list[str]:
    name = variable(node.name)
    lines = [f"{name} = self.{name}_neuron({name})"] if node.rectify else []
    return [*lines, *([f"{name} = self.{name}_pool({name})"] if node.pool is not None else [])]


def _weights(network: Flat) -> str:
    """All arrays, one after the other, packed as text of lines."""
    text = base64.b64encode(zlib.compress(b"".join(a.tobytes() for _, a in arrays(network)), 6)).decode()
    return "\n".join(text[at : at + 120] for at in range(0, len(text), 120))


def arrays(network: Flat) -> list[tuple[str, np.ndarray]]:
    """Names of the script's tensors with their numbers, in the order in which they are packed."""
    found = []
    for node in network.nodes:
        name = variable(node.name)
        if node.weight is not None:
            found.append((f"{name}.weight", node.weight))
            if node.gain is None and node.shift is not None:
                found.append((f"{name}.bias", node.shift))
        if node.gain is not None and node.shift is not None:
            found += [(f"{name}_gain", node.gain), (f"{name}_shift", node.shift)]
    return found
