"""
Script that runs the ONNX graphs beside this file on an image and phrases.

It needs onnxruntime, numpy and pillow, and tokenizers for the text encoder, but not torch.

    python predict.py picture.jpg "red apple" "leaf" --output masks

It writes one PNG per phrase, where a pixel's value is the rank of its instance by score, and prints scores and boxes
(x1, y1, x2, y2 in px). A detection counts from the threshold of its phrase in thresholds.json or concepts.json on;
without one from a score of 0.5 on. Phrases of concepts.json use their tokens. Other phrases need text_encoder.onnx;
with it, `base:leaf` is the phrase "leaf" without its concept. Without phrases, those of concepts.json are predicted.
"""

import argparse
import json
import re
import sys
import unicodedata
from pathlib import Path

import numpy as np


sys.modules.setdefault("torch", None)  # makes an accidental import of torch fail

HERE = Path(__file__).resolve().parent
TEXT_LENGTH = 32
PADDING_LABEL = -10  # label of a padding box, as in `sam_ft.ops.prompts`, which is not imported here
BASE_PREFIX = "base:"


class Graphs:
    """
    The graphs and concepts as one callable, from an image and P phrases to scores, boxes, presence and masks.

    Args:
        folder (`Path`): Folder of the graphs, the script's folder by default.

    Attributes:
        concepts (`list[dict]`): Entries of concepts.json, with their `tokens` `(K, C)`.
    """

    def __init__(self, folder: Path = HERE):
        import onnxruntime

        self.vision, self.text, self.detector = (
            onnxruntime.InferenceSession(str(file), providers=onnxruntime.get_available_providers())
            if file.is_file()
            else None
            for file in (folder / f"{name}.onnx" for name in ("vision_encoder", "text_encoder", "detector"))
        )
        self.concepts = read_concepts(folder)

    @property
    def side(self) -> int:
        """Side of the model's canvas, px."""
        return self.vision.get_inputs()[0].shape[-1]

    def find_concept(self, phrase: str) -> dict | None:
        """Return the concept of a phrase; spellings that differ in case and separators only are equivalent."""
        for spell in (str, normalize_phrase):
            for concept in self.concepts:
                if spell(phrase) in map(spell, (concept["phrase"], *concept["synonyms"])):
                    return concept
        return None

    def encode(self, phrases: list[str]) -> tuple:
        """Return text features `(P, 32, C)` and mask `(P, 32)`; raise `ValueError` for a phrase that has neither."""
        concepts = [self.find_concept(phrase) for phrase in phrases]
        if self.text is None:
            missing = [phrase for phrase, concept in zip(phrases, concepts) if concept is None]
            if missing:
                known = ", ".join(concept["phrase"] for concept in self.concepts)
                raise ValueError(
                    f"there is no concept for {missing[0]!r} in {HERE}, and no text encoder. Give one of: {known}"
                )
            features = np.zeros((len(phrases), TEXT_LENGTH, self.concepts[0]["tokens"].shape[1]), dtype=np.float32)
            mask = np.zeros(features.shape[:2], dtype=np.int64)
        else:
            plain = [phrase.removeprefix(BASE_PREFIX) for phrase in phrases]
            texts = [text if self.find_concept(text) else phrase for text, phrase in zip(plain, phrases)]
            input_ids, mask = tokenize(texts)
            (features,) = self.text.run(None, {"input_ids": input_ids, "attention_mask": mask})
        for row, concept in enumerate(concepts):
            if concept is not None:
                number = len(concept["tokens"])
                features[row, :number], mask[row] = concept["tokens"], np.arange(TEXT_LENGTH) < number
        return features, mask

    def __call__(self, pixel_values, phrases: list[str], boxes=None, box_labels=None) -> dict:
        text, mask = self.encode(phrases)
        if boxes is None:
            boxes = np.full((len(phrases), 1, 4), 0.5, dtype=np.float32)
            box_labels = np.full((len(phrases), 1), PADDING_LABEL, dtype=np.int64)
        fine, middle, coarse = self.vision.run(None, {"pixel_values": pixel_values})
        inputs = {"fine": fine, "middle": middle, "coarse": coarse, "text": text}
        inputs |= {"attention_mask": mask, "boxes": boxes, "box_labels": box_labels}
        # the exporter drops the inputs that a graph does not use
        names = {node.name for node in self.detector.get_inputs()}
        outputs = self.detector.run(None, {name: value for name, value in inputs.items() if name in names})
        return dict(zip(("scores", "boxes_xyxy", "presence", "masks"), outputs))


def read_concepts(folder: Path) -> list[dict]:
    """Read concepts.json and concepts.safetensors of a folder; an empty list without them."""
    if not (folder / "concepts.json").is_file():
        return []
    concepts = json.loads((folder / "concepts.json").read_text(encoding="utf-8"))["concepts"]
    # a safetensors file is the length of its header, the header, and the bytes of all tensors
    content = (folder / "concepts.safetensors").read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    for index, concept in enumerate(concepts):
        entry = header[f"concept.{index}"]
        first, end = entry["data_offsets"]
        concept["tokens"] = np.frombuffer(content[start + first : start + end], dtype="<f4").reshape(entry["shape"])
    return concepts


def read_pixels(image, side: int):
    """Resize an image as the processor does, to `(1, 3, side, side)` with values from -1 to 1."""
    from PIL import Image

    values = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR), dtype=np.float32)
    return (values / 127.5 - 1).transpose(2, 0, 1)[None]


def tokenize(texts: list[str]):
    """Tokenize phrases to `input_ids` and `attention_mask`, both `(P, 32)`."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    settings = json.loads((HERE / "tokenizer_config.json").read_text(encoding="utf-8"))
    padding = settings.get("pad_token") or "<|endoftext|>"
    padding = padding["content"] if isinstance(padding, dict) else padding
    tokenizer.enable_truncation(TEXT_LENGTH)
    tokenizer.enable_padding(length=TEXT_LENGTH, pad_token=padding, pad_id=tokenizer.token_to_id(padding))
    encoded = tokenizer.encode_batch(texts)
    return np.array([e.ids for e in encoded]), np.array([e.attention_mask for e in encoded])


def normalize_phrase(phrase: str) -> str:
    """Reduce a phrase to lower-case words: `Traffic_light` -> `traffic light`."""
    return " ".join(re.sub(r"[_\-/()]+", " ", unicodedata.normalize("NFC", phrase)).lower().split())


def find_threshold(phrase: str, concept: dict | None) -> tuple[float, float]:
    """Return the presence temperature and the score threshold of a phrase: the model's, else the concept's."""
    file = HERE / "thresholds.json"
    saved = {"presence_temperature": 1.0, "default": 0.5, "phrases": {}}
    if file.is_file():
        saved = json.loads(file.read_text(encoding="utf-8"))
    threshold = saved["phrases"].get(phrase)
    if threshold is None:  # the phrase may differ in case, separators and brackets only
        normalized = {normalize_phrase(name): value for name, value in reversed(saved["phrases"].items())}
        spellings = normalize_phrase(phrase), normalize_phrase(re.sub(r"\([^)]*\)", " ", phrase))
        threshold = next((normalized[text] for text in spellings if text in normalized), None)
    if threshold is None and concept is not None and concept["threshold"] is not None:
        return concept["temperature"], concept["threshold"]
    return saved["presence_temperature"], saved["default"] if threshold is None else threshold


def calibrate(scores, presence: float, temperature: float):
    """Scale scores to the presence probability at its fitted temperature."""
    if temperature == 1:
        return scores
    presence = min(max(presence, 1e-6), 1 - 1e-6)
    return scores / presence / (1 + np.exp(-np.log(presence / (1 - presence)) / temperature))


def main() -> None:
    """Predict for the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", nargs="?")
    parser.add_argument("phrases", nargs="*")
    parser.add_argument("--threshold", type=float, help="score threshold of all phrases, instead of the saved ones")
    parser.add_argument("--output", default="masks")
    parser.add_argument(
        "--tensors", nargs=2, metavar=("INPUTS", "OUTPUTS"), help="npz files of tensors, instead of an image"
    )
    options = parser.parse_args()
    graphs = Graphs()
    if options.tensors:
        with np.load(options.tensors[0]) as inputs:
            np.savez(options.tensors[1], **graphs(**{**inputs, "phrases": inputs["phrases"].tolist()}))
        return
    phrases = options.phrases or [concept["phrase"] for concept in graphs.concepts]
    if not options.image or not phrases:
        parser.error("give an image and at least one phrase")
    from PIL import Image, ImageOps

    with Image.open(options.image) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    try:
        outputs = graphs(read_pixels(image, graphs.side), phrases)
    except ValueError as error:
        sys.exit(str(error))
    for name, values in outputs.items():
        bad = ~np.isfinite(values).reshape(len(values), -1).all(1)
        if bad.any():
            phrase = phrases[int(bad.argmax())]
            sys.exit(f"{options.image}, phrase {phrase!r}: the prediction has NaN or infinity in `{name}`")
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    for phrase, scores, boxes, masks, presence in zip(
        phrases, outputs["scores"], outputs["boxes_xyxy"], outputs["masks"], outputs["presence"], strict=True
    ):
        temperature, lowest = find_threshold(phrase, graphs.find_concept(phrase))
        scores, lowest = (
            calibrate(scores, float(presence), temperature),
            lowest if options.threshold is None else options.threshold,
        )
        order = [i for i in np.argsort(-scores) if scores[i] >= lowest]
        drawn = np.zeros((image.height, image.width), dtype=np.uint8)
        for number, query in enumerate(order, 1):
            logits = Image.fromarray(masks[query].astype(np.float32)).resize(image.size, Image.Resampling.BILINEAR)
            drawn[(np.asarray(logits) > 0) & (drawn == 0)] = min(number, 255)
            box = (boxes[query] * np.array([image.width, image.height] * 2)).round(1)
            print(f"{phrase}\t{number}\t{scores[query]:.3f}\t{box.tolist()}")
        file = folder / ("".join(c if c.isalnum() else "_" for c in phrase) + ".png")
        Image.fromarray(drawn).save(file)
        print(f"{phrase}: {len(order)} found, {file}")


if __name__ == "__main__":
    main()
