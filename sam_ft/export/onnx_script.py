"""
Runs the three graphs beside this file: image and phrases to masks. Needs onnxruntime, numpy, pillow and tokenizers, no torch.

    python predict.py picture.jpg "red apple" "leaf" --output masks

Writes a PNG a phrase whose number n is the n-th instance, and prints scores and boxes (x1, y1, x2, y2 in px). Shown is what reaches the
thresholds beside this file (thresholds.json, of the tuned model), a score of 0.5 without them.
"""

import argparse
import json
import re
import sys
import unicodedata
from pathlib import Path

import numpy as np


sys.modules.setdefault("torch", None)  # an import of it would fail: nothing here needs it

HERE = Path(__file__).resolve().parent
TEXT_LENGTH = 32
NONE = -10  # label of a box that is none


class Graphs:
    """`__call__` takes the tensors of one image and P phrases and gives scores, boxes, presence and masks; see the graphs' names."""

    def __init__(self, folder: Path = HERE):
        import onnxruntime

        self.vision, self.text, self.detector = (
            onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), providers=onnxruntime.get_available_providers())
            for name in ("vision_encoder", "text_encoder", "detector")
        )

    @property
    def side(self) -> int:
        return self.vision.get_inputs()[0].shape[-1]

    def __call__(self, pixel_values, input_ids, attention_mask, boxes=None, box_labels=None) -> dict:
        if boxes is None:
            boxes = np.full((len(input_ids), 1, 4), 0.5, dtype=np.float32)
            box_labels = np.full((len(input_ids), 1), NONE, dtype=np.int64)
        fine, middle, coarse = self.vision.run(None, {"pixel_values": pixel_values})
        (text,) = self.text.run(None, {"input_ids": input_ids, "attention_mask": attention_mask})
        given = {"fine": fine, "middle": middle, "coarse": coarse, "text": text}
        given |= {"attention_mask": attention_mask, "boxes": boxes, "box_labels": box_labels}
        # an input that a graph does not need is left out of it
        wanted = {one.name for one in self.detector.get_inputs()}
        outputs = self.detector.run(None, {name: value for name, value in given.items() if name in wanted})
        return dict(zip(("scores", "boxes_xyxy", "presence", "masks"), outputs))


def read_pixels(image, side: int):
    """`(1, 3, side, side)`: resized as the processor does, in -1 … 1."""
    from PIL import Image

    values = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR), dtype=np.float32)
    return (values / 127.5 - 1).transpose(2, 0, 1)[None]


def tokenize(texts: list[str]):
    """`input_ids` and `attention_mask (P, 32)`."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    settings = json.loads((HERE / "tokenizer_config.json").read_text(encoding="utf-8"))
    padding = settings.get("pad_token") or "<|endoftext|>"
    padding = padding["content"] if isinstance(padding, dict) else padding
    tokenizer.enable_truncation(TEXT_LENGTH)
    tokenizer.enable_padding(length=TEXT_LENGTH, pad_token=padding, pad_id=tokenizer.token_to_id(padding))
    encoded = tokenizer.encode_batch(texts)
    return np.array([e.ids for e in encoded]), np.array([e.attention_mask for e in encoded])


def words(phrase: str) -> str:
    """Lower-case words of a phrase: `Traffic_light` -> `traffic light`."""
    return " ".join(re.sub(r"[_\-/()]+", " ", unicodedata.normalize("NFC", phrase)).lower().split())


def at_thresholds(phrase: str, scores, presence: float, threshold: float | None):
    """Scores at the temperature of the tuned model's presence, and from which one on a detection is shown."""
    file = HERE / "thresholds.json"
    if not file.is_file():
        return scores, 0.5 if threshold is None else threshold
    saved = json.loads(file.read_text(encoding="utf-8"))
    presence = min(max(presence, 1e-6), 1 - 1e-6)
    calm = 1 / (1 + np.exp(-np.log(presence / (1 - presence)) / saved["presence_temperature"]))
    own = saved["phrases"].get(phrase)
    if own is None:  # of a phrase that differs in case, separators and brackets only
        normalized = {words(name): value for name, value in reversed(saved["phrases"].items())}
        spellings = words(phrase), words(re.sub(r"\([^)]*\)", " ", phrase))
        own = next((normalized[text] for text in spellings if text in normalized), saved["default"])
    return scores / presence * calm, own if threshold is None else threshold


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", nargs="?")
    parser.add_argument("phrases", nargs="*")
    parser.add_argument("--threshold", type=float, help="of all phrases, instead of the model's own")
    parser.add_argument("--output", default="masks")
    parser.add_argument("--tensors", nargs=2, metavar=("ASKED", "ANSWERED"), help="npz files, instead of an image")
    options = parser.parse_args()
    graphs = Graphs()
    if options.tensors:
        with np.load(options.tensors[0]) as asked:
            np.savez(options.tensors[1], **graphs(**asked))
        return
    if not options.image or not options.phrases:
        parser.error("give an image and at least one phrase")
    from PIL import Image, ImageOps

    with Image.open(options.image) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    answer = graphs(read_pixels(image, graphs.side), *tokenize(options.phrases))
    for name, values in answer.items():
        bad = ~np.isfinite(values).reshape(len(values), -1).all(1)
        if bad.any():
            phrase = options.phrases[int(bad.argmax())]
            sys.exit(f"{options.image}, phrase {phrase!r}: the prediction has NaN or infinity in `{name}`")
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    for phrase, scores, boxes, masks, presence in zip(
        options.phrases, answer["scores"], answer["boxes_xyxy"], answer["masks"], answer["presence"], strict=True
    ):
        scores, least = at_thresholds(phrase, scores, float(presence), options.threshold)
        order = [i for i in np.argsort(-scores) if scores[i] >= least]
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
