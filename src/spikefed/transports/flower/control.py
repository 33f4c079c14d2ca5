"""The operator's side of a SuperLink: registering node keys, opening and closing Flower runs."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping

import httpx
from flwr.cli.build import build_fab_from_files
from flwr.common.serde import fab_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,  # noqa: I001
)
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from spikefed.errors import DeployError

APP = b"""[project]
name = "spikefed"
version = "1.0.0"
dependencies = []
[tool.flwr.app]
publisher = "spikefed"
[tool.flwr.app.components]
serverapp = "nothing:app"
clientapp = "nothing:app"
"""
"""What Flower calls the app of a run. It holds no code: both sides run the spikefed that is installed there."""


class Control:
    """Calls to the Control API of one SuperLink.

    Args:
        address: ``host:port``.
        ca: the CA certificate, PEM.
    """

    def __init__(self, address: str, ca: bytes) -> None:
        self._client = ControlHttpClient.from_server_address(
            address, False, ca, [RuntimeVersionHttpInterceptor(component_name="flwr CLI")]
        )

    def wait(self, seconds: float, hopeless: Callable[[], bool] = lambda: False) -> None:
        """Return once the SuperLink answers.

        Raises:
            DeployError: it does not within ``seconds``, or before ``hopeless()``.
        """
        end = time.monotonic() + seconds
        while True:
            try:
                self._client.ListNodes(ListNodesRequest())
                return
            except (httpx.HTTPError, RuntimeError) as error:
                if time.monotonic() > end or hopeless():
                    raise DeployError(f"the SuperLink does not answer ({error})") from error
                time.sleep(0.1)

    def register(self, keys: Mapping[int, bytes]) -> dict[int, int]:
        """Node ids by client number; keys that the SuperLink does not know yet are registered.

        Args:
            keys: public key (PEM) by client number.
        """
        known = {node.public_key: node.node_id for node in self._client.ListNodes(ListNodesRequest()).nodes_info}
        nodes = {}
        for client, key in keys.items():
            if key not in known:
                request = RegisterNodeRequest(public_key=key, name=f"client-{client}")
                known[key] = self._client.RegisterNode(request).node_id
            nodes[client] = known[key]
        return nodes

    def start_run(self) -> int:
        """Open a Flower run; returns its id."""
        content, _ = build_fab_from_files({"pyproject.toml": APP})
        fab = Fab(hashlib.sha256(content).hexdigest(), content, {})
        return self._client.StartRun(StartRunRequest(fab=fab_to_proto(fab))).run_id

    def stop_runs(self) -> None:
        """Close every run that is still open (a killed server leaves one)."""
        for run_id, run in self._client.ListRuns(ListRunsRequest()).run_dict.items():
            if run.status.status != "finished":
                with contextlib.suppress(httpx.HTTPError):
                    self._client.StopRun(StopRunRequest(run_id=run_id))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
