"""
Script that runs the three ONNX graphs beside this file on an image and phrases.

It needs onnxruntime, numpy, pillow and tokenizers, but not torch.

    python predict.py picture.jpg "red apple" "leaf" --output masks

It writes one PNG per phrase, where a pixel's value is the rank of its instance by score, and prints scores and boxes
(x1, y1, x2, y2 in px). A detection counts from the threshold of its phrase in thresholds.json on; without that file
from a score of 0.5 on.
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


class Graphs:
    """
    The three graphs as one callable, from the tensors of one image and P phrases to scores, boxes, presence and masks.

    Args:
        folder (`Path`): Folder of the graphs, the script's folder by default.
    """

    def __init__(self, folder: Path = HERE):
        import onnxruntime

        self.vision, self.text, self.detector = (
            onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), providers=onnxruntime.get_available_providers())
            for name in ("vision_encoder", "text_encoder", "detector")
        )

    @property
    def side(self) -> int:
        """Side of the model's canvas, px."""
        return self.vision.get_inputs()[0].shape[-1]

    def __call__(self, pixel_values, input_ids, attention_mask, boxes=None, box_labels=None) -> dict:
        if boxes is None:
            boxes = np.full((len(input_ids), 1, 4), 0.5, dtype=np.float32)
            box_labels = np.full((len(input_ids), 1), PADDING_LABEL, dtype=np.int64)
        fine, middle, coarse = self.vision.run(None, {"pixel_values": pixel_values})
        (text,) = self.text.run(None, {"input_ids": input_ids, "attention_mask": attention_mask})
        inputs = {"fine": fine, "middle": middle, "coarse": coarse, "text": text}
        inputs |= {"attention_mask": attention_mask, "boxes": boxes, "box_labels": box_labels}
        # the exporter drops the inputs that a graph does not use
        names = {node.name for node in self.detector.get_inputs()}
        outputs = self.detector.run(None, {name: value for name, value in inputs.items() if name in names})
        return dict(zip(("scores", "boxes_xyxy", "presence", "masks"), outputs))


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


def at_thresholds(phrase: str, scores, presence: float, threshold: float | None):
    """Calibrate scores by the saved temperature of the presence; return them and the score threshold of the phrase."""
    file = HERE / "thresholds.json"
    if not file.is_file():
        return scores, 0.5 if threshold is None else threshold
    saved = json.loads(file.read_text(encoding="utf-8"))
    presence = min(max(presence, 1e-6), 1 - 1e-6)
    calibrated_presence = 1 / (1 + np.exp(-np.log(presence / (1 - presence)) / saved["presence_temperature"]))
    phrase_threshold = saved["phrases"].get(phrase)
    if phrase_threshold is None:  # the phrase may differ in case, separators and brackets only
        normalized = {normalize_phrase(name): value for name, value in reversed(saved["phrases"].items())}
        spellings = normalize_phrase(phrase), normalize_phrase(re.sub(r"\([^)]*\)", " ", phrase))
        phrase_threshold = next((normalized[text] for text in spellings if text in normalized), saved["default"])
    return scores / presence * calibrated_presence, phrase_threshold if threshold is None else threshold


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
            np.savez(options.tensors[1], **graphs(**inputs))
        return
    if not options.image or not options.phrases:
        parser.error("give an image and at least one phrase")
    from PIL import Image, ImageOps

    with Image.open(options.image) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    outputs = graphs(read_pixels(image, graphs.side), *tokenize(options.phrases))
    for name, values in outputs.items():
        bad = ~np.isfinite(values).reshape(len(values), -1).all(1)
        if bad.any():
            phrase = options.phrases[int(bad.argmax())]
            sys.exit(f"{options.image}, phrase {phrase!r}: the prediction has NaN or infinity in `{name}`")
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    for phrase, scores, boxes, masks, presence in zip(
        options.phrases, outputs["scores"], outputs["boxes_xyxy"], outputs["masks"], outputs["presence"], strict=True
    ):
        scores, lowest = at_thresholds(phrase, scores, float(presence), options.threshold)
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
