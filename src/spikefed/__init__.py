"""Federated learning of spiking neural networks that sends spikes instead of weights."""

__version__ = "0.1.0"
