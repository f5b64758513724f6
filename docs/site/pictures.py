"""Pictures of docs/images: pages of sam-ft as a browser shows them, and the sheet of the demo.

    make demo && python docs/site/pictures.py report out/demo          # report.png and before_after.png
    python docs/site/pictures.py check                                 # check_page.png, of scenes with planted defects
    python docs/site/pictures.py review out/review                     # review_page.png, a finding of each kind

The browser is the command in the variable CHROMIUM, by default `chromium`. Pictures are saved with a palette, so that
each has less than 200 KB.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from sam_ft.data.synthetic.scene_files import write_shape_scenes  # noqa: E402
from sam_ft.ops.masks import decode_mask, encode_mask  # noqa: E402
from sam_ft.options.scenes import SceneFiles, SceneOptions  # noqa: E402


IMAGES = ROOT / "docs" / "images"
MAX_BYTES = 200_000
WIDTH = 900  # px


def save_with_palette(picture: Image.Image, file: Path) -> None:
    """Save a picture with as many colours as fit into `MAX_BYTES`."""
    for colors in (256, 192, 128, 96, 64):
        # k-means keeps the few pixels of labels, which the median cut alone merges with the background.
        palette = picture.convert("RGB").quantize(colors, dither=Image.Dither.NONE, kmeans=3)
        palette.save(file, optimize=True)
        if file.stat().st_size <= MAX_BYTES:
            return


def take_picture(page: Path, file: Path, height: int) -> None:
    """Save the upper part of a page as a browser with a light theme shows it."""
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "page.png"
        command = [
            os.environ.get("CHROMIUM", "chromium"), "--headless", "--no-sandbox", "--hide-scrollbars",
            f"--user-data-dir={folder}/profile", "--blink-settings=preferredColorScheme=1",
            f"--window-size={WIDTH},{height}", f"--screenshot={picture}", page.resolve().as_uri(),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
        save_with_palette(Image.open(picture), file)


def take_pictures_of_report(run: Path, height: int) -> None:
    """Save the report of a run and its sheet of the most improved images."""
    take_picture(run / "report.html", IMAGES / "report.png", height)
    sheet = Image.open(run / "before_after.png")
    save_with_palette(sheet.reduce(2), IMAGES / "before_after.png")


def take_picture_of_check(height: int) -> None:
    """Check scenes with a duplicate instance and a mirrored copy of an image, and save the page."""
    shapes = ["circle", "square", "triangle", "rectangle", "crescent", "arrow"]
    scenes = SceneOptions(width=160, height=160, shapes=shapes, min_shapes=2, max_shapes=5, seed=3)
    with tempfile.TemporaryDirectory() as folder:
        data = write_shape_scenes(Path(folder) / "shapes", SceneFiles(scenes, num_train=20, num_validation=5))
        file = data / "annotations" / "instances_train.json"
        content = json.loads(file.read_text())
        twin = next(a for a in content["annotations"] if a["image_id"] == 2)
        content["annotations"].append(twin | {"id": 901})
        with Image.open(data / "train" / "00007.png") as image:
            ImageOps.mirror(image).save(data / "train" / "mirrored_00007.png")
        size = {"width": scenes.width, "height": scenes.height}
        content["images"].append({"id": 999, "file_name": "mirrored_00007.png", **size})
        for annotation in [a for a in content["annotations"] if a["image_id"] == 7]:
            x, y, w, h = annotation["bbox"]
            mask = decode_mask(annotation["segmentation"]["counts"], scenes.height, scenes.width)[:, ::-1]
            counts = encode_mask(np.ascontiguousarray(mask))
            mirrored = {"bbox": [scenes.width - x - w, y, w, h], "image_id": 999, "id": 910 + annotation["id"]}
            mirrored["segmentation"] = annotation["segmentation"] | {"counts": counts}
            content["annotations"].append(annotation | mirrored)
        file.write_text(json.dumps(content))
        command = [sys.executable, str(ROOT / "recipes" / "check_data.py"), "--dataset_name", "shapes"]
        # The exit status is 2 because of the findings.
        subprocess.run([*command, "--gallery_dir", "check"], cwd=folder, check=False)
        take_picture(Path(folder) / "check" / "index.html", IMAGES / "check_page.png", height)


def take_picture_of_review(review: Path, height: int) -> None:
    """Save the page of a review with the first finding of each kind."""
    page, kinds = (review / "index.html").read_text(encoding="utf-8"), set()
    for section in re.findall(r'<section class="entry".*?</section>\n', page, re.DOTALL):
        kind = re.search(r'data-kind="(\w+)"', section)[1]
        if kind in kinds:
            page = page.replace(section, "")
        kinds.add(kind)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "index.html"
        file.write_text(page, encoding="utf-8")
        take_picture(file, IMAGES / "review_page.png", height)


def main() -> None:
    """Save the pictures that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["report", "check", "review"])
    parser.add_argument("folder", type=Path, nargs="?", help="folder of a run or of a review")
    parser.add_argument("--height", type=int, default=1500, help="px of the page that are shown")
    args = parser.parse_args()
    if shutil.which(os.environ.get("CHROMIUM", "chromium")) is None:
        parser.error("there is no chromium; set the variable CHROMIUM to the command of a Chromium or Chrome")
    if args.kind == "report":
        take_pictures_of_report(args.folder, args.height)
    elif args.kind == "review":
        take_picture_of_review(args.folder, args.height)
    else:
        take_picture_of_check(args.height)


if __name__ == "__main__":
    main()
