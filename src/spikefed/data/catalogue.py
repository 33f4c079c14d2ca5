"""What each data set is: sizes, classes, source, licence, official files with their checksums.

Checksums of MNIST, Fashion-MNIST and CIFAR are those of the official releases. Of EMNIST the MD5 of the official
archive ``gzip.zip`` is known; of its members only those checksums are listed that two independent parties publish
alike. A file without a checksum is verified by its format, size and counts.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field

from spikefed.errors import DataError


@dataclass(frozen=True)
class OfficialFile:
    """A file of the official release. ``size_bytes`` and the checksums are None where they are not known."""

    name: str
    size_bytes: int | None = None
    md5: str | None = None
    sha256: str | None = None

    @property
    def checksum(self) -> str | None:
        """``"sha256:..."`` or ``"md5:..."``, or None when unknown."""
        if self.sha256:
            return f"sha256:{self.sha256}"
        return f"md5:{self.md5}" if self.md5 else None


@dataclass(frozen=True)
class Form:
    """One way in which a data set lies on disk.

    Attributes:
        kind: ``idx`` (official .gz files), ``idx-plain`` (the same, unpacked), ``idx-zip`` (in EMNIST's archive);
            ``mat`` (SVHN's MATLAB files); ``batches`` (CIFAR's python version), ``batches-tar`` (its archive),
            ``tiles`` (lossless WebP, zipped).
        files: files for each split; an archive stands under both.
        folder: folder that the files must lie in, "" for any.
        members: for an archive, the official files inside, for each split.
    """

    kind: str
    files: dict[str, tuple[OfficialFile, ...]]
    folder: str = ""
    members: dict[str, tuple[OfficialFile, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetInfo:
    """A data set that `load` knows.

    Attributes:
        shape: (channels, height, width).
        sizes: images for each split. ``other_sizes`` lists further counts of official releases.
        forms: the ways it may lie on disk, in order of preference; the embedded set has none.
        folders: sub-folder names that are looked into.
        urls: official addresses for each file that can be fetched, first choice first.
        label_offset: label of the first class in the files (EMNIST letters start at 1).
        transposed: True when the files hold images with rows and columns exchanged (EMNIST).
        label_key: which label of a CIFAR file is used.
    """

    name: str
    title: str
    classes: int
    shape: tuple[int, int, int]
    sizes: dict[str, int]
    licence: str
    source: str
    forms: tuple[Form, ...] = ()
    folders: tuple[str, ...] = ()
    urls: dict[str, tuple[str, ...]] = field(default_factory=dict)
    label_offset: int = 0
    transposed: bool = False
    label_key: str = "labels"
    other_sizes: dict[str, int] = field(default_factory=dict)

    @property
    def files(self) -> tuple[OfficialFile, ...]:
        """The official files of the first form (none for an embedded set)."""
        if not self.forms:
            return ()
        form = self.forms[0]
        return tuple(dict.fromkeys(form.files["train"] + form.files["test"]))

    @property
    def counts(self) -> dict[str, tuple[int, ...]]:
        """Accepted number of images for each split."""
        return {s: (n, *([self.other_sizes[s]] if s in self.other_sizes else [])) for s, n in self.sizes.items()}


# name: (bytes, md5, sha256, sha256 of the unpacked file)
_MNIST = {
    "train-images-idx3-ubyte": (
        9912422,
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels-idx1-ubyte": (
        28881,
        "d53e105ee54ea40749a09fcbcd1e9432",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "t10k-images-idx3-ubyte": (
        1648877,
        "9fb629c4189551a2d022fa330f9573f3",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels-idx1-ubyte": (
        4542,
        "ec29112dd5afa0611ce80d1b7f02629c",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}
_FASHION = {
    "train-images-idx3-ubyte": (
        26421880,
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    "train-labels-idx1-ubyte": (
        29515,
        "25c81989df183df01b3e8a0aad5dffbe",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    "t10k-images-idx3-ubyte": (
        4422102,
        "bef4ecab320f06d8554ea6380940ec79",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    "t10k-labels-idx1-ubyte": (
        5148,
        "bb300cfdad3c16e7a12a480ee83cd310",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}
# SHA-256 of members of EMNIST's gzip.zip, each published alike by two independent parties.
_EMNIST_SHA256 = {
    "emnist-balanced-train-images-idx3-ubyte.gz": "74295e75e4e9fa2c102147460ee7eb763653d5132d883a84fb88932bfb8d2db4",
    "emnist-balanced-train-labels-idx1-ubyte.gz": "b46d41e5156a0a8aaaa4d18979fdd1588850fa8571018acffd5d93b325a7d6ed",
    "emnist-digits-train-images-idx3-ubyte.gz": "f7c95004d14d81af89522e67d8f0c781dfb3bd544181c81bfe1eb6b41c35b726",
    "emnist-digits-train-labels-idx1-ubyte.gz": "6638a6ff5fe2eefd9cca2471995b46c82986b8e4b2a70d2f5ce8e05d7edb319e",
    "emnist-mnist-train-images-idx3-ubyte.gz": "5f9942f441031c0f1f2e4d162059fd6e19ea808b34c328b6d16cab0ed24c78f2",
    "emnist-mnist-train-labels-idx1-ubyte.gz": "00c6d3c2342fdffb1711e0b5656cac4ce5862d2826399d383a9bac07d612e9f8",
}


def _idx_forms(table: dict[str, tuple[int, str, str, str]], sizes: dict[str, int]) -> tuple[Form, ...]:
    packed: dict[str, tuple[OfficialFile, ...]] = {}
    plain: dict[str, tuple[OfficialFile, ...]] = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        names = (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
        packed[split] = tuple(OfficialFile(f"{n}.gz", *table[n][:3]) for n in names)
        content = (16 + sizes[split] * 784, 8 + sizes[split])
        plain[split] = tuple(OfficialFile(n, b, None, table[n][3]) for n, b in zip(names, content, strict=True))
    return (Form("idx", packed), Form("idx-plain", plain))


def _emnist(split_name: str, classes: int, train: int, test: int, **more: int) -> DatasetInfo:
    def files(end: str) -> dict[str, tuple[OfficialFile, ...]]:
        names = {
            s: (f"emnist-{split_name}-{s}-images-idx3-ubyte{end}", f"emnist-{split_name}-{s}-labels-idx1-ubyte{end}")
            for s in ("train", "test")
        }
        return {s: tuple(OfficialFile(n, sha256=_EMNIST_SHA256.get(n)) for n in two) for s, two in names.items()}

    archive = OfficialFile("gzip.zip", 561753746, md5="58c8d27c78d21e728a6bc7b3cc06412e")
    return DatasetInfo(
        name=f"emnist-{split_name}",
        title=f"EMNIST {split_name}",
        classes=classes,
        shape=(1, 28, 28),
        sizes={"train": train, "test": test},
        licence="none stated with the files; derived from NIST Special Database 19, see the NIST page of the set",
        source="G. Cohen, S. Afshar, J. Tapson, A. van Schaik, EMNIST: an extension of MNIST to handwritten letters, "
        "arXiv:1702.05373, 2017",
        forms=(
            Form("idx", files(".gz")),
            Form("idx-plain", files("")),
            Form("idx-zip", {"train": (archive,), "test": (archive,)}, members=files(".gz")),
        ),
        folders=("emnist", "EMNIST", "EMNIST/raw", "emnist/gzip", "EMNIST/raw/gzip", "gzip"),
        urls={"gzip.zip": ("https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",)},
        transposed=True,
        label_offset=1 if split_name == "letters" else 0,
        # The paper's table counts 88,800 + 14,800 letters, the released archive 124,800 + 20,800.
        other_sizes={"train": 88800, "test": 14800} if split_name == "letters" else {},
    )


def _cifar(name: str, classes: int, key: str) -> DatasetInfo:
    """``name`` cifar10, cifar100 or cifar100-coarse; the sizes and MD5 are those of the official release."""
    if name == "cifar10":
        folder = "cifar-10-batches-py"
        tar = OfficialFile("cifar-10-python.tar.gz", 170498071, md5="c58f30108f718f92721af3b95e74349a")
        batches = {
            "train": (
                OfficialFile("data_batch_1", 31035704, "c99cafc152244af753f735de768cd75f"),
                OfficialFile("data_batch_2", 31035320, "d4bba439e000b95fd0a9bffe97cbabec"),
                OfficialFile("data_batch_3", 31035999, "54ebc095f3ab1f0389bbae665268c751"),
                OfficialFile("data_batch_4", 31035696, "634d18415352ddfa80567beed471001a"),
                OfficialFile("data_batch_5", 31035623, "482c414d41f54cd18b22e5b47cb7c3cb"),
            ),
            "test": (OfficialFile("test_batch", 31035526, "40351d587109b95175f43aff81a1287e"),),
        }
        tiles = OfficialFile(
            "cifar10.zip", 98361040, None, "9ac275db6536d63415a567174e78e1c80cacf448ee7b3396835d665606996765"
        )
    else:
        folder = "cifar-100-python"
        tar = OfficialFile("cifar-100-python.tar.gz", 169001437, md5="eb9058c3a382ffc7106e4002c42a8d85")
        batches = {
            "train": (OfficialFile("train", 155249918, "16019d7e3df5f24257cddd939b257f8d"),),
            "test": (OfficialFile("test", 31049707, "f0ef6b0ae62326f3e7ffdfab6717acfc"),),
        }
        tiles = OfficialFile(
            "cifar100.zip", 99091667, None, "f701787e7999b97fdc216c3d3430f535c87d61ea68176bfa177f5db2ccee05ce"
        )
    title = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "cifar100-coarse": "CIFAR-100, 20 coarse classes"}[name]
    return DatasetInfo(
        name=name,
        title=title,
        classes=classes,
        shape=(3, 32, 32),
        sizes={"train": 50000, "test": 10000},
        licence="none stated with the data; the authors ask that the report be cited",
        source="A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, technical report, "
        "University of Toronto, 2009",
        forms=(
            Form("batches", batches, folder=folder),
            Form("tiles", {"train": (tiles,), "test": (tiles,)}),
            Form("batches-tar", {"train": (tar,), "test": (tar,)}, folder="", members=batches),
        ),
        folders=("cifar", "CIFAR", "cifar10", "CIFAR10")
        if name == "cifar10"
        else ("cifar", "CIFAR", "cifar100", "CIFAR100"),
        urls={tar.name: (f"https://www.cs.toronto.edu/~kriz/{tar.name}",)},
        label_key=key,
    )


def _mnist_like(
    name: str,
    title: str,
    table: dict[str, tuple[int, str, str, str]],
    licence: str,
    source: str,
    **more: tuple[str, ...],
) -> DatasetInfo:
    sizes = {"train": 60000, "test": 10000}
    return DatasetInfo(
        name=name,
        title=title,
        classes=10,
        shape=(1, 28, 28),
        sizes=sizes,
        licence=licence,
        source=source,
        forms=_idx_forms(table, sizes),
        folders=more["folders"],
        urls={f"{n}.gz": tuple(f"{base}{n}.gz" for base in more["bases"]) for n in table},
    )


_CATALOGUE: dict[str, DatasetInfo] = {
    info.name: info
    for info in (
        DatasetInfo(
            name="digits",
            title="Optical digits, 8x8 (inside scikit-learn)",
            classes=10,
            shape=(1, 8, 8),
            sizes={"train": 1437, "test": 360},
            licence="CC BY 4.0",
            source="E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning "
            "Repository, 1998 (its test part of 1,797 images)",
        ),
        DatasetInfo(
            name="watch",
            title="Smartwatch exercises of ten people (inside seglearn)",
            classes=7,
            shape=(6, 1, 1),
            sizes={"train": 3675, "test": 1002},
            licence="BSD-3-Clause",
            source="D. M. Burns et al., Shoulder physiotherapy exercise recognition: machine learning the inertial "
            "signals from a smartwatch, Physiological Measurement 39, 2018 (arXiv:1802.01489)",
        ),
        _mnist_like(
            "mnist",
            "MNIST",
            _MNIST,
            "commonly given as CC BY-SA 3.0 (Y. LeCun and C. Cortes; derived from NIST data)",
            "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document recognition, "
            "Proceedings of the IEEE 86(11), 1998",
            folders=("mnist", "MNIST", "MNIST/raw", "mnist/raw"),
            bases=("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
        ),
        _mnist_like(
            "fashion-mnist",
            "Fashion-MNIST",
            _FASHION,
            "MIT (Zalando SE)",
            "H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning "
            "Algorithms, arXiv:1708.07747, 2017",
            folders=("fashion-mnist", "FashionMNIST", "FashionMNIST/raw", "fashion_mnist", "fashion", "fmnist"),
            bases=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        ),
        _emnist("balanced", 47, 112800, 18800),
        _emnist("byclass", 62, 697932, 116323),
        _emnist("bymerge", 47, 697932, 116323),
        _emnist("letters", 26, 124800, 20800),
        _emnist("digits", 10, 240000, 40000),
        _emnist("mnist", 10, 60000, 10000),
        DatasetInfo(
            name="svhn",
            title="Street View House Numbers",
            classes=10,
            shape=(3, 32, 32),
            sizes={"train": 73257, "test": 26032},
            licence="none stated with the data; for non-commercial use, says its page",
            source="Y. Netzer et al., Reading digits in natural images with unsupervised feature learning, NIPS "
            "workshop, 2011",
            forms=(
                Form(
                    "mat",
                    {
                        "train": (OfficialFile("train_32x32.mat", md5="e26dedcc434d2e4c54c9b2d4a06d8373"),),
                        "test": (OfficialFile("test_32x32.mat", md5="eb5a983be6a315427106f1b164d9cef3"),),
                    },
                ),
            ),
            folders=("svhn", "SVHN"),
            urls={
                f"{split}_32x32.mat": (f"http://ufldl.stanford.edu/housenumbers/{split}_32x32.mat",)
                for split in ("train", "test")
            },
        ),
        _cifar("cifar10", 10, "labels"),
        _cifar("cifar100", 100, "fine_labels"),
        _cifar("cifar100-coarse", 20, "coarse_labels"),
    )
}


EVENT_NAMES = ("n-mnist", "dvs128-gesture", "cifar10-dvs", "shd", "ssc")
"""Names of `spikefed.data.events`, for errors."""


def datasets() -> list[DatasetInfo]:
    """Every data set that `load` knows."""
    return list(_CATALOGUE.values())


def dataset_info(name: str) -> DatasetInfo:
    """The entry of ``name``.

    Raises:
        DataError: unknown name (the text gives the nearest known one).
    """
    if name in _CATALOGUE:
        return _CATALOGUE[name]
    known = [*_CATALOGUE, *EVENT_NAMES]
    near = difflib.get_close_matches(name.lower().replace("_", "-"), known, n=1, cutoff=0.5)
    hint = (
        f"did you mean '{near[0]}'?"
        if near
        else f"choose one of {', '.join(known)}, or your own as images:FOLDER, csv:FILE, npz:PATH or module:name."
    )
    raise DataError(f"unknown data set '{name}'; {hint}")
