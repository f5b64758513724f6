"""Tests of the exports of annotation platforms: Supervisely, Darwin, Labelbox, Open Images and Roboflow masks."""

import base64
import io
import json
import zlib

import numpy as np
import pytest
from PIL import Image

from sam_ft.data.loading import find_phrase_splits
from sam_ft.data.sources import read_splits
from sam_ft.ops.masks import decode_mask
from sam_ft.options.data import DatasetOptions, ReadOptions

from .export_trees import EXPORT_TREES, to_points
from .trees import HEIGHT, WIDTH, picture


OUTER, HOLE = [4, 4, 24, 4, 24, 24, 4, 24], [10, 10, 18, 10, 18, 18, 10, 18]


def read(folder, split="train", **options):
    splits, _ = find_phrase_splits(DatasetOptions(str(folder)))
    return read_splits(splits, ReadOptions(**options))[split]


def change(file, edit) -> None:
    """Change the content of a JSON file."""
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def mask_of(rows, index: int) -> np.ndarray:
    return decode_mask(rows[0]["instances"][index]["segmentation"], HEIGHT, WIDTH)


def ring() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[4:24, 4:24] = True
    mask[10:18, 10:18] = False
    return mask


class TestSupervisely:
    def make(self, folder, edit=lambda content: None, **options):
        EXPORT_TREES["supervisely"](folder)
        change(folder / "train" / "ann" / "first.png.json", edit)
        return read(folder, **options)

    def test_holes(self, tmp_path):
        points = {"exterior": np.reshape(OUTER, (-1, 2)).tolist(), "interior": [np.reshape(HOLE, (-1, 2)).tolist()]}
        rows, _ = self.make(tmp_path, lambda c: c["objects"][0].update(points=points))
        assert np.array_equal(mask_of(rows, 0), ring())

    def test_bitmaps_with_alpha_and_without(self, tmp_path):
        mask = np.array([[1, 0], [1, 1]], dtype=bool)
        alpha = np.zeros((2, 2, 4), dtype=np.uint8)
        alpha[..., 3] = mask * 255
        images = [Image.fromarray(alpha), Image.fromarray(mask.astype(np.uint8) * 255), Image.fromarray(mask)]

        def edit(content):
            for entry, image in zip(content["objects"], images, strict=True):
                buffer = io.BytesIO()
                image.save(buffer, "PNG")
                data = base64.b64encode(zlib.compress(buffer.getvalue())).decode()
                entry.update(geometryType="bitmap", bitmap={"data": data, "origin": [5, 7]})

        rows, _ = self.make(tmp_path, edit)
        for i in range(3):
            assert np.array_equal(mask_of(rows, i)[7:9, 5:7], mask)
            assert mask_of(rows, i).sum() == 3

    def test_rectangles_include_both_corners(self, tmp_path):
        points = {"exterior": [[2, 3], [11, 12]], "interior": []}
        rows, report = self.make(tmp_path, lambda c: c["objects"][0].update(geometryType="rectangle", points=points))
        assert rows[0]["instances"][0]["bbox"] == [2, 3, 10, 10]
        assert report.num_box_only == 1

    def test_a_bitmap_that_expands_without_limit_is_refused(self, tmp_path):
        bomb = base64.b64encode(zlib.compress(bytes(2**27))).decode()
        edit = lambda c: c["objects"][1].update(bitmap={"data": bomb, "origin": [0, 0]})  # noqa: E731
        with pytest.raises(
            ValueError, match=r"first.png.json, objects\[1\]: `bitmap.data` cannot be read \(it has more"
        ):
            self.make(tmp_path, edit)

    def test_a_bitmap_that_is_larger_than_the_image_is_refused(self, tmp_path):
        buffer = io.BytesIO()
        Image.new("1", (WIDTH + 1, 2)).save(buffer, "PNG")
        data = base64.b64encode(zlib.compress(buffer.getvalue())).decode()
        with pytest.raises(ValueError, match=rf"it has {WIDTH + 1}×2 px, the image {WIDTH}×{HEIGHT}"):
            self.make(tmp_path, lambda c: c["objects"][1].update(bitmap={"data": data, "origin": [0, 0]}))

    def test_unknown_kinds_are_remarked_and_not_absent(self, tmp_path):
        rows, report = self.make(tmp_path, lambda c: c["objects"][2].update(geometryType="cuboid"))
        assert report.remark_counts["shape of a kind that is not read"] == 1
        assert "pear" not in [phrase["text"] for phrase in rows[0]["phrases"]]

    def test_unknown_classes_are_refused(self, tmp_path):
        with pytest.raises(ValueError, match="the class 'plum' is not among the classes"):
            self.make(tmp_path, lambda c: c["objects"][2].update(classTitle="plum"))

    def test_images_without_annotation_are_counted(self, tmp_path):
        EXPORT_TREES["supervisely"](tmp_path)
        picture(5).save(tmp_path / "train" / "img" / "third.png")
        _, report = read(tmp_path)
        assert any("1 images have no file in ann/" in note for note in report.notes)


class TestDarwin:
    def make(self, folder, edit=lambda content: None, **options):
        EXPORT_TREES["darwin"](folder)
        change(folder / "releases" / "latest" / "annotations" / "first.json", edit)
        return read(folder, **options)

    @pytest.mark.parametrize("older", [False, True])
    def test_paths_are_filled_by_the_even_odd_rule(self, tmp_path, older):
        polygon = {"paths": [to_points(OUTER), to_points(HOLE)]}
        if older:
            polygon = {"path": to_points(OUTER), "additional_paths": [to_points(HOLE)]}
        rows, _ = self.make(tmp_path, lambda c: c["annotations"][1].update(polygon=polygon))
        assert np.array_equal(mask_of(rows, 0), ring())

    def test_pixels_of_no_mask_are_refused(self, tmp_path):
        with pytest.raises(ValueError, match="raster layer contains 1, which no mask has"):
            self.make(tmp_path, lambda c: c["annotations"].pop(2))

    def test_a_raster_layer_of_another_size_is_refused(self, tmp_path):
        def edit(content):
            content["annotations"][-1]["raster_layer"]["dense_rle"][1] += 5

        with pytest.raises(ValueError, match=rf"has {WIDTH * HEIGHT + 5} pixels, its image {WIDTH}×{HEIGHT}"):
            self.make(tmp_path, edit)

    def test_several_slots_are_refused(self, tmp_path):
        with pytest.raises(ValueError, match="`item.slots` contains 2 slots; one image is read"):
            self.make(tmp_path, lambda c: c["item"]["slots"].append({}))

    def test_ellipses_are_remarked(self, tmp_path):
        def edit(content):
            content["annotations"][3] = {"name": "pear", "ellipse": {}}

        rows, report = self.make(tmp_path, edit)
        assert report.remark_counts["shape of a kind that is not read"] == 1
        assert "pear" not in [phrase["text"] for phrase in rows[0]["phrases"]]

    def test_only_one_release_is_read(self, tmp_path):
        EXPORT_TREES["darwin"](tmp_path)
        (tmp_path / "releases" / "latest").rename(tmp_path / "releases" / "v1")
        assert len(read(tmp_path)[0]) == 2
        EXPORT_TREES["darwin"](tmp_path)
        assert len(read(tmp_path)[0]) == 2
        (tmp_path / "releases" / "latest").rename(tmp_path / "releases" / "v2")
        with pytest.raises(ValueError, match="there are the releases v1, v2; keep one"):
            read(tmp_path)


class TestLabelbox:
    def make(self, folder, edit=lambda rows: None, **options):
        EXPORT_TREES["labelbox"](folder)
        file = folder / "export.ndjson"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        edit(rows)
        file.write_text("\n".join(map(json.dumps, rows)))
        return read(folder, **options)

    @staticmethod
    def objects(rows) -> list:
        return rows[0]["projects"]["p1"]["labels"][0]["annotations"]["objects"]

    def test_masks_behind_urls_are_remarked_and_their_class_is_not_absent(self, tmp_path):
        entry = {"name": "pear", "annotation_kind": "ImageSegmentationMask", "mask": {"url": "https://api/mask"}}

        def edit(rows):
            self.objects(rows)[3] = entry

        rows, report = self.make(tmp_path, edit)
        assert report.remark_counts["mask behind a URL"] == 1
        assert any("never opened" in remark.detail for remark in report.remarks)
        assert "pear" not in [phrase["text"] for phrase in rows[0]["phrases"]]

    def test_boxes(self, tmp_path):
        entry = {"name": "pear", "bounding_box": {"top": 2, "left": 3, "height": 4, "width": 5}}

        def edit(rows):
            self.objects(rows)[3] = entry

        assert self.make(tmp_path, edit)[0][0]["instances"][3]["bbox"] == [3, 2, 5, 4]

    def test_several_labels_of_an_image_are_refused(self, tmp_path):
        with pytest.raises(ValueError, match="has 2 labels, of several annotators or projects"):
            self.make(tmp_path, lambda rows: rows[0]["projects"]["p1"]["labels"].append({"annotations": {}}))

    def test_images_without_a_label_are_left_out(self, tmp_path):
        rows, report = self.make(tmp_path, lambda rows: rows[1]["projects"]["p1"].update(labels=[]))
        assert len(rows) == 1
        assert any("1 images have no label in any project" in note for note in report.notes)

    def test_names_in_urls(self, tmp_path):
        def edit(rows):
            rows[0]["data_row"].update(external_id="a7b3", row_data="https://storage/x/first.png?token=1")

        assert len(self.make(tmp_path, edit)[0][0]["instances"]) == 4

    def test_a_missing_image_is_not_downloaded(self, tmp_path):
        def edit(rows):
            rows[0]["data_row"].update(external_id="a7b3", row_data="https://storage/x/third.png")

        with pytest.raises(ValueError, match=r"the image 'a7b3' or 'third.png' is missing.*nothing is downloaded"):
            self.make(tmp_path, edit)

    def test_json_lists(self, tmp_path):
        expected = self.make(tmp_path)[0]
        file = tmp_path / "export.ndjson"
        (tmp_path / "export.json").write_text(f"[{','.join(file.read_text().splitlines())}]")
        file.unlink()
        received = read(tmp_path)[0]
        assert received["instances"] == expected["instances"]


class TestOpenImages:
    def make(self, folder):
        EXPORT_TREES["openimages"](folder)
        return folder / "validation-annotations-object-segmentation.csv"

    def test_masks_are_resized_to_their_image(self, tmp_path):
        self.make(tmp_path)
        expected = read(tmp_path, "validation")[0]
        for file in (tmp_path / "masks").rglob("*.png"):
            with Image.open(file) as mask:
                mask.resize((2 * WIDTH, 2 * HEIGHT), Image.Resampling.NEAREST).save(file)
        assert read(tmp_path, "validation")[0]["instances"] == expected["instances"]
        with Image.open(file) as mask:
            mask.resize((WIDTH, 2 * HEIGHT)).save(file)
        with pytest.raises(ValueError, match="of another aspect ratio"):
            read(tmp_path, "validation")

    def test_missing_masks_and_names_are_refused(self, tmp_path):
        file = self.make(tmp_path)
        mask = next((tmp_path / "masks").rglob("*.png"))
        content = mask.read_bytes()
        mask.unlink()
        with pytest.raises(ValueError, match=rf"the mask '{mask.name}' is missing below the folder"):
            read(tmp_path, "validation")
        mask.write_bytes(content)
        file.write_text(file.read_text().replace("/m/0pear", "/m/0plum"))
        with pytest.raises(ValueError, match="the label '/m/0plum' has no name in the class descriptions"):
            read(tmp_path, "validation")

    def test_listed_images_without_a_file_are_counted(self, tmp_path):
        file = self.make(tmp_path)
        file.write_text(file.read_text() + "x_m0pear_1.png,x,/m/0pear,1,0,1,0,1,0.9,\n")
        rows, report = read(tmp_path, "validation")
        assert len(rows) == 2
        assert any("1 listed images have no file" in note for note in report.notes)

    def test_only_three_columns_are_required(self, tmp_path):
        file = self.make(tmp_path)
        expected, _ = read(tmp_path, "validation")
        file.write_text("".join(",".join(line.split(",")[:3]) + "\n" for line in file.read_text().splitlines()))
        rows, _ = read(tmp_path, "validation")
        assert [row["instances"] for row in rows] == [row["instances"] for row in expected]

    def test_malformed_quotes_are_refused(self, tmp_path):
        file = self.make(tmp_path)
        file.write_text(file.read_text().replace("first_m0pear_2.png", '"first_m0pear"_2.png'))
        with pytest.raises(ValueError, match="the CSV file cannot be read"):
            read(tmp_path, "validation")

    def test_boxes_are_compared_with_the_masks(self, tmp_path):
        file = self.make(tmp_path)
        assert not [remark for remark in read(tmp_path, "validation")[1].remarks if "box" in remark.kind]
        header, first, *others = file.read_text().splitlines()
        values = first.split(",")
        values[5] = str(float(values[5]) + 0.3)  # BoxXMax
        file.write_text("\n".join([header, ",".join(values), *others]) + "\n")
        (remark,) = [remark for remark in read(tmp_path, "validation")[1].remarks if "box" in remark.kind]
        assert remark.kind == "listed box is not the mask's"

    def test_paths_of_masks_stay_in_the_folder(self, tmp_path):
        file = self.make(tmp_path / "data")
        Image.new("L", (WIDTH, HEIGHT), 255).save(tmp_path / "outside.png")
        text = file.read_text()
        file.write_text(text.replace("first_m0pear_2.png", "../outside.png"))
        with pytest.raises(ValueError, match="is missing below the folder"):
            read(tmp_path / "data", "validation")


class TestRoboflowMasks:
    def test_background_is_left_out_and_unknown_numbers_are_refused(self, tmp_path):
        EXPORT_TREES["roboflow_masks"](tmp_path)
        rows, _ = read(tmp_path, mask_values="classes")
        assert {p["text"] for row in rows for p in row["phrases"]} == {"apple", "pear"}
        (tmp_path / "train" / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, apple\n")
        with pytest.raises(ValueError, match="the mask contains 2, which is the value of no class"):
            read(tmp_path, mask_values="classes")

    @pytest.mark.parametrize("values", [None, "instances"])
    def test_the_meaning_of_values_is_required(self, tmp_path, values):
        EXPORT_TREES["roboflow_masks"](tmp_path)
        with pytest.raises(ValueError, match=r"Set `mask_values: classes` .* or `components`"):
            read(tmp_path, mask_values=values)

    def test_images_and_masks_without_a_partner(self, tmp_path):
        EXPORT_TREES["roboflow_masks"](tmp_path)
        (tmp_path / "train" / "second_mask.png").unlink()
        _, report = read(tmp_path, mask_values="classes")
        assert any("1 images have no mask image" in note for note in report.notes)
        (tmp_path / "train" / "first.jpg").unlink()
        with pytest.raises(ValueError, match="the image .first. of the mask .* is missing"):
            read(tmp_path, mask_values="classes")
