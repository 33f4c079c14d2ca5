"""What a table inside ``[training]`` is, that changes every step of local training."""

from __future__ import annotations

from spikefed.federated.contract import ClientContext
from spikefed.hyper import Hyperparameters
from spikefed.training import StepHook


class StepOption(Hyperparameters):
    """A table inside ``[training]`` that changes every step of local training, whatever the method.

    A field of `LocalTraining` whose value is one is found by `step_hooks`; the key is the field's name, so
    ``adversarial: Adversarial = Field(default=Adversarial(), json_schema_extra={"since": "0.2"})`` is
    ``[training.adversarial]``. At its defaults an option changes nothing, not even what is drawn.
    """

    def hook(self, ctx: ClientContext) -> StepHook | None:
        """What it does in a step on this client, or None where it is off."""
        return None
