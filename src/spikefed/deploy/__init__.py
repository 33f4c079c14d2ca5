"""One experiment on several machines: the server's process, a client's process, their data on disk.

The round loop, the methods and the packets are those of a local run; `transports.flower` carries them.
"""
