"""Networks that leave: as a plain torch script, as C, as ONNX, as NIR; and those that come in."""

from spikefed.interop.about import About
from spikefed.interop.c99 import CFile, c_file
from spikefed.interop.flat import Flat, FlatNode, Source, flat
from spikefed.interop.nirfile import DT, nir_file, nir_graph
from spikefed.interop.nirread import PREFIX, bones_file, nir_bones, nir_name, read_nir
from spikefed.interop.onnxfile import onnx_file
from spikefed.interop.readers import READERS, Reader, Verdict, pre_flight
from spikefed.interop.script import script
from spikefed.interop.statedict import lay_state

__all__ = [
    "About",
    "CFile",
    "DT",
    "Flat",
    "FlatNode",
    "PREFIX",
    "READERS",
    "Reader",
    "Source",
    "Verdict",
    "bones_file",
    "c_file",
    "flat",
    "lay_state",
    "nir_bones",
    "nir_file",
    "nir_graph",
    "nir_name",
    "onnx_file",
    "pre_flight",
    "read_nir",
    "script",
]
