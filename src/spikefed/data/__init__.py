"""Data sets from their official files, and how they are shared out between clients and the public set."""

from __future__ import annotations

from spikefed.data.catalogue import DatasetInfo, OfficialFile, dataset_info, datasets
from spikefed.data.check import CheckRow, FileRow, check
from spikefed.data.convert import converted
from spikefed.data.events import EVENT_SETS
from spikefed.data.federation import ClientIndices, FederatedSplit, generator_of, label_counts, pooled, split_federation
from spikefed.data.fetch import fetch
from spikefed.data.generator import Ensemble
from spikefed.data.groups import check_owners, leave_out, together
from spikefed.data.images import ImageSet, by_content, public_set_id, resize, to_channels
from spikefed.data.lazy import LazyImages
from spikefed.data.limit import limited
from spikefed.data.load import load, load_both, load_sources
from spikefed.data.madepublic import NOISE, is_made, made_public, noise
from spikefed.data.own import image_sets, sources
from spikefed.data.partition import dirichlet_partition, iid_partition, shard_partition
from spikefed.data.parts import Reading, Sources
from spikefed.data.publicset import PublicFacts, difference, facts_of, scale_text
from spikefed.data.shares import (
    PRIVATE,
    PUBLIC,
    SERVER,
    SHARES,
    TEST,
    Private,
    PublicShare,
    client_folders,
    read_private,
    read_public,
    read_test,
    share_folder,
)
from spikefed.data.synthesis import (
    SynthesisPlan,
    check_synthesis,
    classifier,
    normed_layers,
    synthesise,
    total_variation,
)
from spikefed.data.synthetic import SyntheticSet, similarity, soft_targets
from spikefed.data.tasks import (
    TASK,
    Heads,
    TaskData,
    brought_to,
    by_class,
    check_pictures,
    class_groups,
    joined,
    orders,
    permuted,
    ranged,
    rotated,
)
from spikefed.data.timeaxis import to_steps

__all__ = [
    "Ensemble",
    "CheckRow",
    "ClientIndices",
    "DatasetInfo",
    "EVENT_SETS",
    "FederatedSplit",
    "FileRow",
    "ImageSet",
    "LazyImages",
    "Reading",
    "Sources",
    "Heads",
    "TASK",
    "TaskData",
    "brought_to",
    "by_class",
    "check_pictures",
    "class_groups",
    "joined",
    "orders",
    "permuted",
    "ranged",
    "rotated",
    "converted",
    "limited",
    "load_sources",
    "sources",
    "OfficialFile",
    "PRIVATE",
    "PUBLIC",
    "Private",
    "PublicFacts",
    "PublicShare",
    "SERVER",
    "SHARES",
    "TEST",
    "by_content",
    "client_folders",
    "difference",
    "facts_of",
    "read_private",
    "read_public",
    "read_test",
    "scale_text",
    "share_folder",
    "together",
    "check",
    "check_owners",
    "leave_out",
    "dataset_info",
    "datasets",
    "dirichlet_partition",
    "fetch",
    "generator_of",
    "iid_partition",
    "label_counts",
    "image_sets",
    "load",
    "load_both",
    "pooled",
    "public_set_id",
    "resize",
    "shard_partition",
    "split_federation",
    "to_channels",
    "to_steps",
    "SynthesisPlan",
    "NOISE",
    "check_synthesis",
    "classifier",
    "normed_layers",
    "is_made",
    "made_public",
    "noise",
    "SyntheticSet",
    "similarity",
    "soft_targets",
    "synthesise",
    "total_variation",
]
