"""``python -m spikefed``."""

from spikefed.cli import main

main()
