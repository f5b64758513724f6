"""Statistics of a split: image sizes, phrases, and number and size of instances."""

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field

from ..row_schema import MAX_INSTANCES


MAX_QUERIES = 200  # instances of a phrase that SAM 3 can predict in an image
# Lower limits of the bins, of instances per image and of the side of an instance in the model's input.
COUNT_BINS = (0, 1, 2, 3, 5, 9, 17, 33, 65, 129, MAX_QUERIES + 1, 501, 1001)
PRESENT_BINS = COUNT_BINS[1:]  # of (image, phrase) pairs with an instance
SIDE_BINS = (0, 4, 8, 16, 32, 64, 128, 256, 512)
_SHARES = (0.05, 0.5, 0.95)  # percentiles of the areas


@dataclass
class PhraseCounts:
    """Number of images with a phrase, of its instances, and of the images in which it is absent."""

    images: int = 0
    instances: int = 0
    absent: int = 0


@dataclass
class SplitStatistics:
    """
    Statistics of the rows of a split, filled by [`add`] and [`merge`].

    Attributes:
        resolution (`int`): Side of the canvas of the model, px.
        image_sizes (`Counter`): Number of images of each width and height, px.
        phrases (`dict[str, PhraseCounts]`): Counts of each phrase.
        instances_per_image (`Counter`): Number of images by their number of instances.
        instances_per_pair (`Counter`): Number of (image, phrase) pairs by their number of instances; absent pairs are
            not counted.
        sides (`list[int]`): Number of instances in each of `SIDE_BINS`, by the square root of their area on the
            canvas, px.
        areas (`list[float]`): Share of its image that each instance covers.
    """

    resolution: int
    image_sizes: Counter = field(default_factory=Counter)
    phrases: dict[str, PhraseCounts] = field(default_factory=dict)
    instances_per_image: Counter = field(default_factory=Counter)
    instances_per_pair: Counter = field(default_factory=Counter)
    sides: list[int] = field(default_factory=lambda: [0] * len(SIDE_BINS))
    areas: list[float] = field(default_factory=list)

    def add(self, row: dict) -> None:
        """Add a row, whose image is not read. Crowd regions are not counted."""
        self.image_sizes[row["width"], row["height"]] += 1
        objects = {i: instance for i, instance in enumerate(row["instances"]) if not instance["is_crowd"]}
        self.instances_per_image[len(objects)] += 1
        pixels = row["width"] * row["height"]
        for instance in objects.values():
            share = min(instance["area"] / pixels, 1.0)
            self.areas.append(share)
            self.sides[bisect_right(SIDE_BINS, share**0.5 * self.resolution) - 1] += 1
        for phrase in row["phrases"]:
            counts = self.phrases.setdefault(phrase["text"], PhraseCounts())
            number = sum(i in objects for i in phrase["instances"])
            counts.images += bool(phrase["instances"])
            counts.instances += number
            counts.absent += not phrase["instances"]
            if number:
                self.instances_per_pair[number] += 1

    def merge(self, other: "SplitStatistics") -> None:
        """Add the statistics of further rows at the same resolution."""
        for name in ("image_sizes", "instances_per_image", "instances_per_pair"):
            getattr(self, name).update(getattr(other, name))
        self.sides = [a + b for a, b in zip(self.sides, other.sides, strict=True)]
        self.areas += other.areas
        for text, added in other.phrases.items():
            counts = self.phrases.setdefault(text, PhraseCounts())
            counts.images += added.images
            counts.instances += added.instances
            counts.absent += added.absent

    @property
    def share_absent(self) -> float:
        """Share of the (image, phrase) pairs that are absent."""
        absent = sum(counts.absent for counts in self.phrases.values())
        return absent / max(absent + sum(counts.images for counts in self.phrases.values()), 1)

    def area_percentiles(self) -> list[float] | None:
        """Return the 5th, 50th and 95th percentile of the areas; `None` without instances."""
        areas = sorted(self.areas)
        return [areas[int(share * (len(areas) - 1))] for share in _SHARES] if areas else None

    def lines(self) -> list[str]:
        """Format the statistics as lines of text."""
        frequent = ", ".join(f"{w}×{h} ({n})" for (w, h), n in self.image_sizes.most_common(4))
        more = f", {len(self.image_sizes) - 4} other sizes" if len(self.image_sizes) > 4 else ""
        low, median, high = [f"{share:.2%}" for share in self.area_percentiles() or ()] or ["-"] * 3
        numbers = sorted(self.instances_per_image.elements())
        return [
            f"sizes: {frequent}{more}",
            f"instances cover {low} to {high} of their images (5th to 95th percentile), median {median}",
            f"instances per image: median {numbers[len(numbers) // 2]}, maximum {numbers[-1]}; of one phrase at most "
            f"{max(self.instances_per_pair, default=0)}",
            f"{self.share_absent:.0%} of the (image, phrase) pairs are absent",
        ]

    def plain(self) -> dict:
        """Return plain values for JSON."""
        percentiles = self.area_percentiles()
        return {
            "image_sizes": [{"width": w, "height": h, "images": n} for (w, h), n in self.image_sizes.most_common()],
            "phrase_counts": {text: vars(counts) for text, counts in self.phrases.items()},
            "instances_per_image": bin_counts(self.instances_per_image, COUNT_BINS, "images"),
            "max_instances_per_image": max(self.instances_per_image, default=0),
            "instances_per_pair": bin_counts(self.instances_per_pair, PRESENT_BINS, "pairs"),
            "max_instances_per_pair": max(self.instances_per_pair, default=0),
            "instance_sides": [
                {"from_px": low, "instances": number} for low, number in zip(SIDE_BINS, self.sides, strict=True)
            ],
            "area_percentiles": percentiles and dict(zip(("p5", "p50", "p95"), percentiles, strict=True)),
            "share_absent": self.share_absent,
        }


def bin_counts(numbers: Counter, bins: tuple[int, ...], unit: str) -> list[dict]:
    """
    Count values by bins.

    Args:
        numbers (`Counter`): Number of occurrences of each value.
        bins (`tuple[int, ...]`): Lower limits, ascending.
        unit (`str`): Key of the counts.

    Returns:
        `list[dict]`: `{"from", "to", unit}` for each bin up to the last one with a value; `to` is inclusive.
    """
    counts = [0] * len(bins)
    for value, number in numbers.items():
        counts[bisect_right(bins, value) - 1] += number
    last = max((i for i, count in enumerate(counts) if count), default=-1)
    upper = [*(low - 1 for low in bins[1:]), MAX_INSTANCES]
    return [{"from": bins[i], "to": upper[i], unit: counts[i]} for i in range(last + 1)]
