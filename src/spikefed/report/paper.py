"""What the FSD paper printed (Liu et al., J. Phys. Conf. Ser. 2216 (2022) 012078, Tables 1 and 2), for reference.

The printed FSD megabytes count integers sent as text, about 5.3 to 5.6 times the one byte a class and sample of its own
Algorithm 2; the FedAvg megabytes count pickled float32 weights. So they compare with the text measure here, never
with encoded bytes. The V-SNN row of Fashion-MNIST repeats DTSNN-sized cells; its FSD cell is read as DTSNN at 78 %.
"""

from __future__ import annotations

# dataset -> (network, target accuracy, FSD MB, FedAvg MB)
PRINTED: dict[str, list[tuple[str, float, float, float]]] = {
    "mnist": [
        ("DTSNN", 0.97, 27.56, 148.6),
        ("DTSNN", 0.98, 165.6, 297.1),
        ("V-SNN", 0.55, 1.734, 133.6),
        ("V-SNN", 0.95, 15.42, 200.5),
    ],
    "fashion-mnist": [
        ("DTSNN", 0.78, 0.4353, 148.6),
        ("DTSNN", 0.82, 0.873, 148.6),
        ("DTSNN", 0.84, 9.585, 297.1),
    ],
    "cifar10": [
        ("DTSNN", 0.32, 0.887, 360.0),
        ("DTSNN", 0.36, 13.32, 1080.0),
        ("DTSNN", 0.38, 72.02, 1800.0),
        ("V-SNN", 0.38, 1.704, 384.8),
        ("V-SNN", 0.53, 3.393, 481.0),
        ("V-SNN", 0.59, 13.54, 577.2),
    ],
}
