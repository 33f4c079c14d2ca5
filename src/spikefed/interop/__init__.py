"""Networks that leave: as a plain torch script, as C, as ONNX, as NIR; and those that come in."""

from spikefed.interop.about import About
from spikefed.interop.c99 import CFile, c_file
from spikefed.interop.flat import Flat, FlatNode, Source, flat
from spikefed.interop.onnxfile import onnx_file
from spikefed.interop.script import script

__all__ = ["About", "CFile", "Flat", "FlatNode", "Source", "c_file", "flat", "onnx_file", "script"]
