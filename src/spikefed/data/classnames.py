"""What the classes of the official data sets are called: as their publishers' files or pages say, in label order.

Digits (MNIST, SVHN, the optical digits, EMNIST's digits) are their numbers and need no names. The names of CIFAR stand
in ``batches.meta`` and ``meta``, EMNIST's in its mapping files, Fashion-MNIST's in the table of its page.
"""

from __future__ import annotations

from string import ascii_lowercase, ascii_uppercase, digits

FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_FINE = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
    """
CIFAR100 = tuple(_FINE.split())

_COARSE = """
    aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices household_furniture
    insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes
    large_omnivores_and_herbivores medium_mammals non-insect_invertebrates people reptiles small_mammals trees
    vehicles_1 vehicles_2
    """
CIFAR100_COARSE = tuple(_COARSE.split())

EMNIST_MERGED = (*digits, *ascii_uppercase, *"abdefghnqrt")
"""Digits, capitals, and the small letters that do not look like their capitals."""

CLASS_NAMES: dict[str, tuple[str, ...]] = {
    "fashion-mnist": FASHION,
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "cifar100-coarse": CIFAR100_COARSE,
    "emnist-balanced": EMNIST_MERGED,
    "emnist-bymerge": EMNIST_MERGED,
    "emnist-byclass": (*digits, *ascii_uppercase, *ascii_lowercase),
    "emnist-letters": tuple(ascii_uppercase),
}
"""By the name of the data set; one that is not here has its numbers for names."""
