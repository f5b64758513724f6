"""Learning curves of `sam-ft review --next` against random choice, on synthetic scenes with rare shapes.

    OMP_NUM_THREADS=1 python benchmarks/acquisition.py --folder out/acquisition      # ten seeds, then the report
    OMP_NUM_THREADS=1 python benchmarks/acquisition.py --folder out/acquisition --plot docs/images/acquisition.svg

The unlabelled images are scenes of shapes that sam-ft/tiny was trained on, in which stars, hearts and crosses are
rare. Two of these new shapes, hearts and crosses, are labelled. A curve starts with eight labelled images, among them
one of each phrase, and adds eight in each of three rounds: those of [`select_images`], or random ones. Both curves of
a seed start from the same images and the same model. The score is the mean box AP50 of both phrases on scenes that
contain them more often, so that few images measure it.

After each round, concept tokens are trained from the words' features on all labelled images. They react to single
images, because nothing else is trained, and the frozen encoders' features of every image are computed once. Each
step has as many pairs of each phrase, half of them with instances, so that the curves compare labels and not the
frequency of a phrase in a step. The committee is this model and those of two folds.

A finished seed is one line of `seeds.jsonl`: a stopped benchmark continues after it. Seeds from 100 on were used to
choose the learning rate; the default seeds were not.
"""

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import numpy as np
import torch


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.gpu_table import format_table  # noqa: E402
from sam_ft.data.keyed_random import keyed_draws  # noqa: E402
from sam_ft.data.samples.collators import Sam3Collator, tokenize_phrases  # noqa: E402
from sam_ft.data.samples.pipeline import EvaluationSamples  # noqa: E402
from sam_ft.data.samples.sample import Sample  # noqa: E402
from sam_ft.data.synthetic.scenes import draw_scene  # noqa: E402
from sam_ft.metrics.average_precision import coco_ground_truth, coco_scores  # noqa: E402
from sam_ft.metrics.label_acquisition import CommitteePredictions, select_images  # noqa: E402
from sam_ft.models.families import get_resolution  # noqa: E402
from sam_ft.models.loading import load_model  # noqa: E402
from sam_ft.models.processors import load_processor_of_model  # noqa: E402
from sam_ft.models.sam3.concept_files import add_concept_files  # noqa: E402
from sam_ft.models.sam3.concepts import ConceptEntry, ConceptTokens, repeat_tokens  # noqa: E402
from sam_ft.models.sam3.steps import ConceptPredictionStep, ConceptTrainingStep  # noqa: E402
from sam_ft.ops.masks import mask_area, mask_box_xywh  # noqa: E402
from sam_ft.options.evaluation import DetectionLimits  # noqa: E402
from sam_ft.options.model import ModelOptions  # noqa: E402
from sam_ft.options.scenes import SHAPES, SceneOptions  # noqa: E402
from sam_ft.utils.files import write_atomically  # noqa: E402


PHRASES = ["heart", "cross"]
COMMON, TEST = [*SHAPES * 5, "star", *PHRASES], [*SHAPES, *PHRASES * 3]  # a repeated shape is as much more frequent
POOL_IMAGES, TEST_IMAGES, SCENE_SEED = 800, 120, 5
UNLABELLED, FIRST, NEXT, ROUNDS, FOLDS = 250, 8, 8, 3, 2  # UNLABELLED of the pool's images are drawn by each seed
TOKENS, PAIRS, RATE = 8, 24, 0.1
STEPS, FOLD_STEPS = 60, 40
MIN_SCORE = 0.05
Prediction = dict[str, tuple[float, np.ndarray, np.ndarray]]  # phrase -> presence, scores, boxes (x1, y1, x2, y2)


@dataclass
class Images:
    """Encoded images: rows, samples with features, pooled features `(N, C)`, and whether they show each phrase."""

    rows: list[dict]
    samples: list[Sample]
    pooled: np.ndarray
    shows: np.ndarray


def draw_rows(shapes: list[str], number: int, split: str) -> list[dict]:
    """Draw scenes as rows whose phrases are `PHRASES`."""
    options = SceneOptions(
        width=192, height=192, min_shapes=1, max_shapes=4, shapes=shapes, fills=["solid"], sizes=["medium", "large"],
        grounds=["plain", "gradient", "speckled"], clutter=0, seed=SCENE_SEED,
    )  # fmt: skip
    rows, size = [], (options.height, options.width)
    for index in range(number):
        image, objects = draw_scene(keyed_draws(options.seed, 0, f"{split}-{index}", "acquisition"), options)
        masks = [scene_object.rle() for scene_object in objects]
        rows.append({
            "example_id": f"{split}-{index}", "image": image, "width": options.width, "height": options.height,
            "instances": [{"bbox": mask_box_xywh(m, *size), "segmentation": m, "area": float(mask_area(m, *size)),
                           "is_crowd": False} for m in masks],
            "phrases": [{"text": text, "exhaustive": True,
                         "instances": [i for i, o in enumerate(objects) if o.shape == text]} for text in PHRASES],
        })  # fmt: skip
    return rows


class Learner:
    """Frozen sam-ft/tiny with the features of all images, on which concept tokens are trained."""

    def __init__(self):
        self.model = load_model(ModelOptions()).eval().requires_grad_(False)
        self.model.configure(pairs_per_chunk=64, with_masks=False)
        self.tokenizer = load_processor_of_model(self.model, "sam-ft/tiny", None).tokenizer
        tokens = tokenize_phrases(self.tokenizer, PHRASES)
        with torch.no_grad():
            text = self.model.encode_texts(tokens["input_ids"], tokens["attention_mask"])
        lengths = tokens["attention_mask"].sum(1).tolist()
        self.text = dict(zip(PHRASES, text, strict=True))
        self.words = {p: self.text[p][:length] for p, length in zip(PHRASES, lengths, strict=True)}
        self.info = add_concept_files(self.model, []).info
        self.pool = self.encode(draw_rows(COMMON, POOL_IMAGES, "pool"))
        self.test = self.encode(draw_rows(TEST, TEST_IMAGES, "test"))
        # Without masks, only the coarsest level of the neck is read, so the samples contain this level.
        self.model.compute_pyramid = lambda features: (features.permute(0, 3, 1, 2),)
        self.truth = coco_ground_truth(self.test.rows, {text: i for i, text in enumerate(PHRASES, 1)})

    @torch.no_grad()
    def encode(self, rows: list[dict]) -> Images:
        """Compute the features of rows."""
        resolution = get_resolution(self.model.config)
        views = EvaluationSamples(rows, resolution=resolution, geometry_token=False, with_masks=False)
        samples, pooled = [views[i] for i in range(len(rows))], []
        for start in range(0, len(samples), 32):
            block = samples[start : start + 32]
            features = self.model.encode_images(torch.stack([sample.image for sample in block]))
            coarse = self.model.compute_pyramid(features)[-1].permute(0, 2, 3, 1)
            for sample, values in zip(block, coarse, strict=True):
                sample.image, sample.features = None, values.contiguous()
            pooled.append(features.mean((1, 2)).numpy())
        shows = np.array([[bool(phrase["instances"]) for phrase in row["phrases"]] for row in rows])
        return Images(rows, samples, np.concatenate(pooled), shows)

    def collate(self, samples: list[Sample]) -> dict:
        """Collate samples with the present concepts."""
        return Sam3Collator(self.tokenizer, self.text, self.model.concepts.index)(samples)

    def train(self, indices: list[int], seed: int, steps: int) -> ConceptTokens:
        """Train the concepts of the phrases that images of the pool show."""
        concepts = ConceptTokens(replace(self.info, concepts=[]))
        generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
        members = {}  # (phrase, present) -> images
        for t, text in enumerate(PHRASES):
            for present in (True, False):
                members[text, present] = [i for i in indices if self.pool.shows[i, t] == present]
            if members[text, True]:
                concepts.add(ConceptEntry(text), repeat_tokens(self.words[text], TOKENS, generator))
        self.model.concepts, queues = concepts, {key: [] for key, images in members.items() if images}
        keys = [key for key in queues if members[key[0], True]]
        if not keys:
            return concepts
        optimizer = torch.optim.AdamW(concepts.parameters(), lr=RATE, weight_decay=0)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        self.model.train()
        for _ in range(steps):
            chosen: dict[int, set[str]] = {}
            for number in range(PAIRS):
                key = keys[number % len(keys)]
                if not queues[key]:
                    queues[key] = rng.permutation(members[key]).tolist()
                chosen.setdefault(queues[key].pop(), set()).add(key[0])
            samples = [self.select_phrases(self.pool.samples[i], texts) for i, texts in chosen.items()]
            self.model(**self.collate(samples), step=ConceptTrainingStep()).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
        self.model.eval()
        return concepts.requires_grad_(False)

    @staticmethod
    def select_phrases(sample: Sample, texts: set[str]) -> Sample:
        """Copy a sample with some of its phrases."""
        return replace(sample, phrases=[phrase for phrase in sample.phrases if phrase.text in texts])

    @torch.no_grad()
    def predict(self, concepts: ConceptTokens, samples: list[Sample]) -> list[Prediction]:
        """Predict samples with trained concepts."""
        self.model.concepts, predictions = concepts, []
        for start in range(0, len(samples), 32):
            batch = self.collate(samples[start : start + 32])
            of_batch: list[Prediction] = [{} for _ in samples[start : start + 32]]
            texts = batch["labels"][0]["phrases"]

            def collect(pair, batch=batch, of_batch=of_batch, texts=texts):
                values = float(pair.presence), pair.scores.numpy(), pair.boxes_xyxy.numpy()
                of_batch[batch["pair_image"][pair.pair]][texts[batch["pair_phrase"][pair.pair]]] = values

            self.model(**batch, step=ConceptPredictionStep(DetectionLimits(MIN_SCORE, 20), collect))
            predictions += of_batch
        return predictions

    def score(self, concepts: ConceptTokens) -> float:
        """Compute the mean box AP50 of the phrases on the test images."""
        results = []
        predictions = self.predict(concepts, self.test.samples)
        for image, row, prediction in zip(self.truth["images"], self.test.rows, predictions, strict=True):
            size = np.array([row["width"], row["height"]] * 2)
            for category, text in enumerate(PHRASES, 1):
                _, scores, boxes = prediction[text]
                for score, (x1, y1, x2, y2) in zip(scores.tolist(), (boxes * size).tolist(), strict=True):
                    box = [x1, y1, x2 - x1, y2 - y1]
                    results.append({"image_id": image["id"], "category_id": category, "score": score, "bbox": box})
        return mean(scores["AP50"] for scores in coco_scores(self.truth, results, "box").by_category.values())


def choose_first(learner: Learner, pool: list[int]) -> list[int]:
    """Choose the first labelled images: one that shows each phrase, then any."""
    first: list[int] = []
    for t in range(len(PHRASES)):
        if not learner.pool.shows[first, t].any():
            first.append(next(i for i in pool if learner.pool.shows[i, t]))
    return first + [i for i in pool if i not in first][: FIRST - len(first)]


def choose_next(learner: Learner, labelled: list[int], pool: list[int], concepts: ConceptTokens, seed: int):
    """Choose the next images as `sam-ft review --next` does."""
    pool_images, candidates = learner.pool, [i for i in pool if i not in labelled]
    order = sorted(labelled, key=lambda i: pool_images.shows[i].tolist())  # folds have equal shares of each phrase
    folds = [[i for n, i in enumerate(order) if n % FOLDS != fold] for fold in range(FOLDS)]
    committee = [concepts, *(learner.train(f, seed + 1 + n, FOLD_STEPS) for n, f in enumerate(folds))]
    samples = [pool_images.samples[i] for i in candidates]
    members = [
        [
            ({text: values[0] for text, values in image.items()}, {text: values[1] for text, values in image.items()})
            for image in learner.predict(member, samples)
        ]
        for member in committee
    ]
    ranked = select_images(
        CommitteePredictions.collect(PHRASES, members), NEXT, phrase_counts=pool_images.shows[labelled].sum(0),
        features=pool_images.pooled[candidates], labelled_features=pool_images.pooled[labelled],
    )  # fmt: skip
    return [candidates[image.index] for image in ranked]


def run_seed(learner: Learner, seed: int) -> dict:
    """Measure both curves of a seed."""
    rng = keyed_draws(seed, 0, "", "acquisition")
    pool = rng.permutation(POOL_IMAGES)[:UNLABELLED].tolist()
    first = choose_first(learner, pool)
    shared = learner.train(first, seed, STEPS)
    start = learner.score(shared)
    result = {"seed": seed, "frequency": learner.pool.shows[pool].mean(0).tolist()}
    for name in ("random", "next"):
        labelled, curve, concepts = list(first), [start], shared
        for _ in range(ROUNDS):
            if name == "random":
                others = [i for i in pool if i not in labelled]
                labelled += [others[i] for i in rng.permutation(len(others))[:NEXT]]
            else:
                labelled += choose_next(learner, labelled, pool, concepts, 1000 * (seed + 1))
            concepts = learner.train(labelled, seed, STEPS)
            curve.append(learner.score(concepts))
        shown = learner.pool.shows[labelled].sum(0).tolist()
        result[name] = {"curve": curve, "area": float(np.trapezoid(curve) / ROUNDS), "shown": shown}
    return result


def print_report(results: list[dict]) -> None:
    """Print the table of all seeds."""
    rows = [
        [str(r["seed"]), *(f"{r[n]['area']:.3f}" for n in ("random", "next")),
         *(f"{r[n]['curve'][-1]:.3f}" for n in ("random", "next")),
         *(", ".join(map(str, r[n]["shown"])) for n in ("random", "next"))]
        for r in results
    ]  # fmt: skip
    columns = ["area", "last AP50", f"images with {' and '.join(PHRASES)}"]
    print(format_table(["seed", *(f"{c}, {n}" for c in columns for n in ("random", "next"))], rows))
    higher = sum(result["next"]["area"] > result["random"]["area"] for result in results)
    means = {name: mean(result[name]["area"] for result in results) for name in ("random", "next")}
    print(f"area higher with next in {higher} of {len(results)} seeds; mean {means['next']:.3f}, "
          f"random {means['random']:.3f}")  # fmt: skip


def draw_plot(results: list[dict]) -> str:
    """Draw the curves of all seeds, thin, and their means, as SVG."""
    left, top, width, height = 48, 34, 420, 220
    highest = max(max(result[name]["curve"]) for result in results for name in ("random", "next"))
    step = width / ROUNDS

    def path(curve: list[float], color: str, stroke: float, opacity: float) -> str:
        points = " ".join(f"{left + i * step:.1f},{top + height * (1 - v / highest):.1f}" for i, v in enumerate(curve))
        return (f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="{stroke}" '
                f'stroke-opacity="{opacity}"/>')  # fmt: skip

    lines, legend = [], []
    for n, (name, color) in enumerate({"random": "#868e96", "next": "#1971c2"}.items()):
        curves = [result[name]["curve"] for result in results]
        lines = [*(path(curve, color, 1, 0.25) for curve in curves), *lines]
        lines.append(path(np.mean(curves, axis=0).tolist(), color, 3, 1))
        label = {"random": "random images", "next": "sam-ft review --next"}[name]
        legend.append(f'<text x="{left + 12}" y="{top + 18 + 18 * n}" fill="{color}">{label}</text>')
    axes = [f'<path d="M{left},{top}V{top + height}H{left + width}" fill="none" stroke="#495057"/>']
    axes += [f'<text x="{left + i * step}" y="{top + height + 18}" text-anchor="middle">{FIRST + NEXT * i}</text>'
             for i in range(ROUNDS + 1)]  # fmt: skip
    axes += [f'<text x="{left - 6}" y="{top + height * (1 - v / highest) + 4}" text-anchor="end">{v:.1f}</text>'
             for v in np.arange(0, highest, 0.1)]  # fmt: skip
    title = f"Box AP50 of rare shapes by number of labelled images, {len(results)} seeds and their mean"
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 24} {top + height + 30}" '
        'font-family="sans-serif" font-size="12">', '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{left - 30}" y="18">{title}</text>', *axes, *lines, *legend, "</svg>\n",
    ])  # fmt: skip


def main() -> None:
    """Run the missing seeds and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="folder of seeds.jsonl")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(10)))
    parser.add_argument("--plot", type=Path, help="SVG file of the curves")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    file = args.folder / "seeds.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    by_seed = {result["seed"]: result for result in map(json.loads, lines)}
    missing = [seed for seed in args.seeds if seed not in by_seed]
    learner = Learner() if missing else None
    for seed in missing:
        by_seed[seed] = run_seed(learner, seed)
        with open(file, "a", encoding="utf-8") as output:
            output.write(json.dumps(by_seed[seed]) + "\n")
        print(json.dumps(by_seed[seed]), flush=True)
    results = [by_seed[seed] for seed in args.seeds]
    print_report(results)
    if args.plot:
        write_atomically(args.plot, lambda path: path.write_text(draw_plot(results), encoding="utf-8"))


if __name__ == "__main__":
    main()
