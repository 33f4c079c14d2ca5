"""Architectures without training: cells scored by how differently an untrained network's neurons answer images."""
