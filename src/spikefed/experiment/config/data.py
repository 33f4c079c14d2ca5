"""Tables of the data: which images, who holds what, which tasks when."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from spikefed.experiment.config.section import SINCE_02, Section


class PublicSourceConfig(Section):
    """Public rows that are made from a network of the run itself, anew every few rounds (docs/data-free.md)."""

    kind: Literal["set", "sent", "seeds"] = Field(
        default="set",
        description="'set': the public set, for the whole run; 'sent': the server makes rows from its network and "
        "sends them; 'seeds': every participant makes the same rows, and no image travels",
    )
    every: int = Field(default=1, ge=1, description="rounds after which rows are made anew")
    recipe: Literal["impressions", "statistics", "generator"] | None = Field(
        default=None,
        description="as in 'spikefed synthesise'; default: statistics where the network has batch norm, else "
        "impressions",
    )
    steps: int = Field(
        default=10, ge=0, le=10_000, description="gradient steps of an image, from noise on; 0: other noise each time"
    )
    lr: float = Field(default=0.05, gt=0, le=1, description="of pixels in [0, 1]")
    temperature: float | None = Field(
        default=None, gt=0, description="of the softmax; default: 0.25 for firing rates, 20 for currents [PrivateSNN]"
    )
    batch: int = Field(default=250, ge=1, description="images made together")


class DataConfig(Section):
    """Which images, and who holds what."""

    dataset: str = Field(
        default="digits",
        description="data set of clients and test ('spikefed list datasets'), or your own: module:name, images:FOLDER, "
        "csv:FILE, npz:PATH, or shares:FOLDER of share folders",
    )
    dir: str | None = Field(default=None, description="folder of the data files; default $SPIKEFED_DATA, then ./data")
    clients: int = Field(default=4, ge=1, description="number of clients N")
    private_per_client: int | None = Field(
        default=None, ge=1, description="private samples per client; default: an equal share"
    )
    public: int = Field(default=400, ge=1, description="rows of the public set X_p")
    public_dataset: str | None = Field(
        default=None,
        description="data set of the public rows; or nobody's: noise, crops:PICTURE, synthetic:FILE (of 'spikefed "
        "synthesise'); default: the same",
    )
    public_source: PublicSourceConfig = Field(
        default=PublicSourceConfig(),
        json_schema_extra=SINCE_02,
        description="rows that are made anew during the run; it then begins with 'public_dataset', by default noise",
    )
    public_order: Literal["content"] | None = Field(
        default=None,
        json_schema_extra=SINCE_02,
        description="'content': public rows in an order that their content alone fixes, for machines that read their "
        "own copy; default: as the seed draws them (share folders made elsewhere: content)",
    )
    partition: str = Field(
        default="iid",
        pattern=r"^(iid|dirichlet|shards|column|[^:]+:.+)$",
        description="how private data is dealt out: iid, dirichlet, shards; column: one client for each value of the "
        "column 'by'; or a function of your own, module:function",
    )
    alpha: float = Field(default=0.5, gt=0, le=1e6, description="Dirichlet concentration; smaller is more skewed")
    shards_per_client: int = Field(default=2, ge=1, description="label-sorted shards per client")
    validation: float = Field(
        default=0.1, ge=0, lt=1, description="share kept to measure a client's accuracy [FSD: 0.1]"
    )
    validation_overlap: bool = Field(default=False, description="train on the validation items too [FSD authors' code]")
    pooled: bool = Field(
        default=False,
        json_schema_extra=SINCE_02,
        description="one client holds the private data of all: the method trains centrally, a round is its epochs",
    )
    pixels: Literal["unit", "signed", "standard", "raw"] | None = Field(
        default=None,
        description="network input: [0, 1], [-1, 1], mean 0 and deviation 1, or the numbers as they are; default: what "
        "coding needs, raw for counts of events, standard for real numbers",
    )
    evaluate_on: Literal["test", "validation"] = Field(
        default="test", description="what the server is measured on; 'validation' (all clients' together) for tuning"
    )
    test_limit: int | None = Field(
        default=None,
        ge=1,
        description="use so many test images: the first, or a sample by class where the first lack classes",
    )
    by: str = Field(
        default="client",
        json_schema_extra=SINCE_02,
        description="column that says whose an item is, such as person; for partition 'column' and for groups",
    )
    sizes: list[Annotated[int, Field(ge=1)]] = Field(
        default=[], json_schema_extra=SINCE_02, description="items of each client; default: equal shares"
    )
    size_alpha: float | None = Field(
        default=None,
        gt=0,
        le=1e6,
        json_schema_extra=SINCE_02,
        description="clients' sizes drawn from Dirichlet(size_alpha); smaller is less equal; default: equal shares",
    )
    own_test: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        json_schema_extra=SINCE_02,
        description="share of each client's items, the last of each class, that is its own test set",
    )
    test_groups: list[str | int] | int = Field(
        default=0,
        json_schema_extra=SINCE_02,
        description="values of the column 'by' whose items are the test set (people left out), or how many the seed "
        "draws; default: the test part as it comes",
    )
    public_groups: list[str | int] | int = Field(
        default=0,
        json_schema_extra=SINCE_02,
        description="values of the column 'by' whose items alone are public rows, or how many the seed draws",
    )
    kind: Literal["images", "frames", "series", "rows"] | None = Field(
        default=None,
        json_schema_extra=SINCE_02,
        description="what your own arrays are: images [N, C, H, W], frames [N, T, C, H, W], series [N, T, F] or "
        "[N, T, C, L], or rows [N, F]; default: told from their shape",
    )
    channels: Literal["first", "last"] | None = Field(
        default=None,
        json_schema_extra=SINCE_02,
        description="which axis of your own images has the channels; default: told from their shape",
    )
    size: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        json_schema_extra=SINCE_02,
        description="side in pixels that event frames and pictures of a folder are brought to; default: as they are",
    )
    frames: Literal["time", "count"] = Field(
        default="time",
        json_schema_extra=SINCE_02,
        description="event sets: T frames of equal time, or of equally many events",
    )
    resample: Literal["bin", "pick", "window"] = Field(
        default="bin",
        json_schema_extra=SINCE_02,
        description="data with a time axis to the network's T steps: 'bin' takes sums of counts and means of other "
        "numbers over T equal stretches, 'pick' one sample of each, 'window' shows a step its whole stretch (series)",
    )


class StagesConfig(Section):
    """Tasks that are learned one after the other (docs/continual.md); one of the first five keys says which."""

    classes: Annotated[int, Field(ge=2)] | list[Annotated[list[int], Field(min_length=1)]] | None = Field(
        default=None, description="tasks by classes: a number of tasks, or the classes of each: [[0, 1], [2, 3]]"
    )
    rotations: list[float] = Field(default=[], description="tasks by degrees that images are turned: [0, 90, 180]")
    permutations: int = Field(
        default=0, ge=0, description="so many tasks: images as they are, then with pixels in orders that the seed draws"
    )
    ranges: list[tuple[Annotated[int, Field(ge=0, le=255)], Annotated[int, Field(ge=0, le=255)]]] = Field(
        default=[], description="tasks by pixel range that 0 and 255 are brought to; [255, 0] is the negative"
    )
    datasets: list[str] = Field(
        default=[], description="tasks by data set, data.dataset first; the others are brought to its channels and size"
    )
    rounds: int = Field(default=10, ge=1, description="rounds of a stage")
    order: Literal["same", "random", "latin"] | list[list[int]] = Field(
        default="same",
        description="order in which clients meet the tasks: the same, one drawn for each, a Latin square (all tasks in "
        "every stage), or a list of tasks for each client",
    )
    heads: Literal["one", "task"] = Field(
        default="one", description="'task': each task has outputs of its own, and is known when it is tested"
    )

    @property
    def on(self) -> bool:
        """Whether the run has stages."""
        return self.tasks > 0

    @property
    def tasks(self) -> int:
        """How many; 0 without stages."""
        classes = self.classes if isinstance(self.classes, int) else len(self.classes or ())
        return classes or len(self.rotations) or self.permutations or len(self.ranges) or len(self.datasets)
