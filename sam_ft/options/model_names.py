"""Names of the models in this package, which need no download."""

TINY = "sam-ft/tiny"  # SAM 3, trained on coloured shapes
TINY_SAM2 = "sam-ft/tiny-sam2"
RANDOM_TINY = "sam-ft/random-tiny"  # SAM 3 with random weights
RANDOM_TINY_SAM2 = "sam-ft/random-tiny-sam2"
