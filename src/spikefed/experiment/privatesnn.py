"""PrivateSNN (Kim, Venkatesha, Panda, AAAI 2022) whole: an ANN, images made from it, a conversion on these, training on
these, and what an attacker with the weights then makes out. One file, one folder; repeat the command to go on.

The file is an experiment that trains the ANN, with a table ``[privatesnn]``. Nobody's data is seen after the ANN but
for measuring. What the last training does to the weights is obfuscation: it has no key and gives no guarantee.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError
from torch import nn

from spikefed.conversion import (
    Conversion,
    Retraining,
    check_convertible,
    convert,
    retrain,
    weight_changes,
)
from spikefed.data import SynthesisPlan, SyntheticSet, check_synthesis, synthesise
from spikefed.data.sheet import sheet
from spikefed.errors import ConfigError
from spikefed.experiment import toml
from spikefed.experiment.build import build
from spikefed.experiment.config import Experiment, Section, from_tree, overridden
from spikefed.experiment.conversion import ConversionPlan, accuracy_of, converted_facts, write_model
from spikefed.experiment.federation import Federation
from spikefed.experiment.folder import RunFolder
from spikefed.experiment.models import load_model
from spikefed.experiment.progress import Progress
from spikefed.experiment.run import run, torch_threads
from spikefed.experiment.synthesis import synthesised
from spikefed.experiment.tables import read_tree
from spikefed.files import write_atomic
from spikefed.models import Model, model_file
from spikefed.networks import relu_view
from spikefed.objects import check_keys


class PrivateTable(Section):
    """The table ``[privatesnn]``."""

    steps: int = Field(default=8, ge=1, le=64, description="time steps T of the spiking network [paper's code: 100]")
    recipe: Literal["max", "percentile", "channel", "local"] = Field(
        default="local", description="how thresholds are found [PrivateSNN: max]"
    )
    kind: Literal["statistics", "impressions"] = Field(
        default="statistics", description="synthetic images [PrivateSNN: impressions]"
    )
    images: int = Field(default=1000, ge=1, description="synthetic images [PrivateSNN: 5,000 or 10,000]")
    synthesis_steps: int = Field(default=200, ge=1, description="gradient steps of an image [PrivateSNN: 2,500]")
    calibration: int = Field(default=512, ge=1, description="synthetic images that set thresholds")
    epochs: int = Field(default=20, ge=0, description="of training on synthetic images; 0: the conversion as it is")
    lr: float = Field(default=1e-3, gt=0, description="of Adam")
    batch: int = Field(default=50, ge=1, description="images of a training step")
    temperature: float = Field(default=4.0, gt=0, description="of distillation from the ANN")
    judge: bool = Field(
        default=True, description="train the ANN of the next seed too: it says what can be made out in rebuilt images"
    )
    attacked: int = Field(default=100, ge=1, description="images that the attacker rebuilds from each network")


@dataclass(frozen=True)
class PrivateFile:
    """What a file says.

    Attributes:
        config: the experiment of the ANN.
        table: the table ``[privatesnn]``.
    """

    config: Experiment
    table: PrivateTable

    def tree(self) -> dict[str, Any]:
        """Every setting."""
        return {**self.config.resolved(), "privatesnn": self.table.model_dump()}

    @property
    def synthesis(self) -> SynthesisPlan:
        """How images are made."""
        return SynthesisPlan(self.table.kind, self.table.images, self.table.synthesis_steps)

    @property
    def conversion(self) -> ConversionPlan:
        """How the ANN is converted."""
        count = min(self.table.calibration, self.table.images)
        return ConversionPlan(self.table.steps, "synthetic", self.table.recipe, count)

    @property
    def retraining(self) -> Retraining:
        """How the spiking network is trained on."""
        table = self.table
        return Retraining(table.epochs, table.lr, table.batch, table.temperature)


def read_private(path: Path, overrides: Iterable[str] = ()) -> PrivateFile:
    """Read and check a file.

    Raises:
        ConfigError: no table ``[privatesnn]``, a network that spikes, or anything wrong in the file.
    """
    tree = overridden(read_tree(path), overrides)
    if "privatesnn" not in tree:
        raise ConfigError(f"{path} has no table [privatesnn]; add one, or run the file with 'spikefed run'")
    table = tree.pop("privatesnn")
    if not isinstance(table, dict):
        raise ConfigError(f"'privatesnn' in {path} must be a table ([privatesnn]), not {table!r}")
    check_keys(table, PrivateTable.model_fields, "privatesnn.", f" in {path}")
    try:
        found = PrivateTable.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"'privatesnn.{where}' = {first.get('input')!r} in {path}: {first['msg']}") from error
    config = from_tree(tree, (), str(path))
    if config.network.twin != "ann":
        raise ConfigError(
            f"PrivateSNN begins from an ANN, and {path} trains a spiking network; set network.twin = 'ann'"
        )
    return PrivateFile(config, found)


class PrivateFolder(RunFolder):
    """Files of a PrivateSNN; the runs of the ANN and of its judge are folders in it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.config = path / "private.toml"
        self.result = path / "private.json"
        self.ann = path / "ann"
        self.judge = path / "judge"
        self.synthetic = path / "synthetic.safetensors"
        self.converted = path / "converted.safetensors"


def run_private(
    path: Path,
    *,
    overrides: Iterable[str] = (),
    out: Path | None = None,
    progress: Progress | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Path:
    """Do all of it, or what is left of it; gives the folder.

    Args:
        path: the file.
        overrides: ``table.key=value`` texts.
        out: the folder; default ``runs/NAME-private-seedS``.
        progress: of the ANN's training.
        tell: told what it does.

    Raises:
        ConfigError: a bad file, a network that cannot be converted, a folder that holds something else.
    """
    file = read_private(path, overrides)
    folder = PrivateFolder(out or Path("runs") / f"{file.config.name}-private-seed{file.config.seed}")
    with folder.held():
        _open(folder, file)
        if folder.finished():
            tell(f"{folder.path} is finished already")
            return folder.path
        federation = build(file.config)
        _check_network(file, federation.networks.load())
        with torch_threads(file.config.run.threads or 1):
            whole = _Whole(file, folder, federation, progress, tell)
            write_atomic(folder.result, json.dumps(whole.made(), indent=1) + "\n")
    return folder.path


def _check_network(file: PrivateFile, net: nn.Module) -> None:
    """Refuse, before hours of training, what none of the stages could use. Raises ConfigError."""
    check_convertible(net)
    check_synthesis(net, file.synthesis)


def _open(folder: PrivateFolder, file: PrivateFile) -> None:
    """Begin here, or go on with the same settings. Raises ConfigError where something else lies."""
    told = toml.dump(file.tree())
    others = [p.name for p in folder.path.iterdir() if not p.name.startswith(".")]
    if folder.exists() and folder.config.read_text() != told:
        raise ConfigError(f"folder {folder.path} holds a PrivateSNN of other settings; name another folder with --out")
    if others and not folder.exists():
        raise ConfigError(f"folder {folder.path} already holds other files; name another folder with --out")
    write_atomic(folder.config, told)


class _Whole:
    """The stages in order; each leaves a file, and begins from those before it."""

    def __init__(
        self,
        file: PrivateFile,
        folder: PrivateFolder,
        federation: Federation,
        progress: Progress | None,
        tell: Callable[[str], None],
    ) -> None:
        self.file = file
        self.folder = folder
        self.federation = federation
        self.progress = progress
        self.tell = tell

    def made(self) -> dict[str, Any]:
        """Do what is left, and say what came out."""
        ann = self._trained(self.folder.ann, 0)
        self.tell("making synthetic images from the ANN")
        images = synthesised(ann, self.file.synthesis, self.folder.synthetic)
        converted = self._converted(ann, images)
        final = self._retrained(converted, images)
        judge = self._trained(self.folder.judge, 1) if self.file.table.judge else None
        self.tell("rebuilding images from the weights, as an attacker would")
        views = {
            "ann": ann.network,
            "ann view of the conversion": relu_view(converted.network),
            "ann view after training": relu_view(final.network),
            "spikes after training": final.network,
        }
        attacks = [self._attacked(name, net, ann, judge) for name, net in views.items()]
        measure: Callable[[Model], float] = lambda model: accuracy_of(model, self.federation)  # noqa: E731
        return {
            "what": "obfuscation by training, without key or guarantee",
            "seed": self.file.config.seed,
            **self.file.table.model_dump(),
            "agreement_share": images.agreement,
            "ann_accuracy": measure(ann),
            "converted_accuracy": measure(converted),
            "accuracy": measure(final),
            "ann_view_accuracy": measure(Model(relu_view(final.network), ann.facts)),
            "judge_accuracy": None if judge is None else measure(judge),
            "weights": weight_changes(converted.network, final.network),
            "attacks": attacks,
        }

    def _trained(self, out: Path, more: int) -> Model:
        """The ANN of the seed, or of one ``more``."""
        config = self.file.config.model_copy(update={"seed": self.file.config.seed + more})
        if not (out / "result.json").is_file():
            self.tell(f"training the ANN of seed {config.seed}")
            run(config, out=out, resume=True, progress=self.progress)
        return load_model(out)

    def _converted(self, ann: Model, images: SyntheticSet) -> Model:
        plan = self.file.conversion
        if not self.folder.converted.is_file():
            self.tell(f"converting it to {plan.steps} time steps")
            shown = ann.preprocess(images.images[: plan.images])
            done: Conversion = convert(ann.network, shown, steps=plan.steps, recipe=plan.recipe)
            write_model(self.folder.converted, done, converted_facts(ann.facts, done, plan, len(shown)))
        return load_model(self.folder.converted)

    def _retrained(self, converted: Model, images: SyntheticSet) -> Model:
        path = self.folder.model
        if not path.is_file():
            self.tell("training the spiking network on the synthetic images")
            net = load_model(self.folder.converted).network
            draws = torch.Generator().manual_seed(self.file.config.seed)
            options = {"preprocess": converted.preprocess, "generator": draws}
            retrain(net, images.images, images.outputs, self.file.retraining, **options)
            plan = {"retrained": dataclasses.asdict(self.file.retraining)}
            facts = dataclasses.replace(converted.facts, extra={**converted.facts.extra, **plan})
            write_atomic(path, model_file(net, facts))
        return load_model(path)

    def _attacked(self, name: str, net: nn.Module, ann: Model, judge: Model | None) -> dict[str, Any]:
        """Images of every class rebuilt from a network, and how often an ANN that never saw it says that class."""
        plan = SynthesisPlan("impressions", self.file.table.attacked, self.file.table.synthesis_steps, scale=0.1)
        classes = ann.facts.classes
        made = synthesise(net, plan, shape=ann.input_shape, classes=classes, preprocess=ann.preprocess)
        picture = self.folder.path / f"rebuilt-{name.replace(' ', '-')}.png"
        write_atomic(picture, sheet(made.images, made.targets.argmax(dim=1), classes))
        told: dict[str, Any] = {"through": name, "images": len(made), "sheet": picture.name}
        if judge is not None:
            said = judge.outputs(made.images).mean(dim=2).argmax(dim=1)
            told["hit_share"] = float((said == made.targets.argmax(dim=1)).double().mean())
        return told
