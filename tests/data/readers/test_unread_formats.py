"""Tests of the recognition of formats that are not read."""

import pytest

from sam_ft.data.readers.layouts import find_splits, find_splits_of_file
from sam_ft.data.readers.unread_formats import UNREAD_FORMATS, find_unread_format


# Name -> path and content of a file in the format.
SAMPLES = {
    "Darwin JSON 1.0 (V7)": ("a.json", '{"dataset": "d", "image": {"width": 4, "seq": 1}, "annotations": []}'),
    "Labelbox export v1": ("export.json", '[{"ID": "1", "Labeled Data": "https://a/b.jpg", "Label": {}}]'),
    "Kili": ("labels/a.json", '[{"externalId": "a", "labels": [{"jsonResponse": {}}]}]'),
    "Encord": ("labels.json", '[{"label_hash": "1", "data_units": {}}]'),
    "SuperAnnotate": ("a.jpg.json", '{"metadata": {}, "instances": [{"type": "polygon", "className": "car"}]}'),
    "Scale AI": ("tasks.json", '[{"task_id": "1", "response": {"annotations": []}}]'),
    "BDD100K (Scalabel)": ("det_train.json", '[{"name": "a.jpg", "labels": [{"box2d": {"x1": 1}}]}]'),
    "CreateML": (
        "_annotations.createml.json",
        '[{"image": "a.jpg", "annotations": [{"label": "a", "coordinates": {"x": 1}}]}]',
    ),
    "VGG Image Annotator 3": ("via.json", '{"project": {"pid": "1"}, "config": {}, "metadata": {}}'),
    "Segments.ai": (
        "release.json",
        '{"dataset": {"samples": [{"labels": {"ground-truth": {"label_status": "LABELED"}}}]}}',
    ),
    "Amazon SageMaker Ground Truth": ("output.manifest", '{"source-ref": "s3://a/b.jpg"}'),
    "Google Vertex AI": ("data.jsonl", '{"imageGcsUri": "gs://a/b.jpg"}'),
    "SA-Co/VEval": ("annotation/saco_veval.json", '{"info": {}, "video_np_pairs": []}'),
    "YouTube-VIS or YouTube-VOS": ("train/meta.json", '{"videos": {"0a": {}}}'),
    "SA-V": ("sav_train/sav_000001_manual.json", "{}"),
    "COCO keypoints": ("person_keypoints_val2017.json", "{}"),
    "COCO captions": ("captions_val2017.json", "{}"),
    "LVIS": ("lvis_v1_val.json", "{}"),
    "Label Studio CSV": ("project.csv", "image,id,label,annotator,annotation_id\n/a.jpg,1,x,1,1\n"),
    "VGG Image Annotator CSV": ("via.csv", "filename,file_size,file_attributes,region_count\n"),
    "CSV of boxes": ("train/_annotations.csv", "filename,width,height,class,xmin,ymin,xmax,ymax\n"),
    "CSV of image labels": ("train/_classes.csv", "filename, cat, dog\na.jpg, 1, 0\n"),
    "Pascal VOC XML beside its images": ("train/a.xml", "<annotation><object><bndbox></bndbox></object></annotation>"),
    "KITTI": ("label_2/000000.txt", "Car 0.00 0 -1.57 5.0 1.0 9.0 4.0 1.5 1.6 3.9 1.8 1.5 8.4 0.1\n"),
    "DOTA": ("labelTxt/P0.txt", "imagesource:GoogleEarth\ngsd:0.1\n1.0 1.0 5.0 1.0 5.0 5.0 1.0 5.0 plane 0\n"),
    "YOLO without class names": ("a.txt", "0 0.5 0.5 0.1 0.2\n"),
    "TFRecord": ("train/coco.tfrecord-00000-of-00010", ""),
    "MATLAB file": ("index_ade20k.mat", ""),
    "NumPy array": ("train/x.npy", ""),
    "ADE20K": ("images/ADE_train_00000001_seg.png", ""),
    "medical volume": ("ct.nii.gz", ""),
    "geographic vector data": ("roofs.geojson", ""),
    "video": ("clips/a.mp4", ""),
    "WebDataset or another archive": ("shard-000000.tar", ""),
    "archive": ("data.zip", ""),
}


def test_every_format_has_a_sample():
    assert [unread.name for unread in UNREAD_FORMATS] == list(SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_format_is_recognised(tmp_path, name):
    path, content = SAMPLES[name]
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(content)
    unread, file = find_unread_format(tmp_path)
    assert (unread.name, file) == (name, path)


@pytest.mark.parametrize("name", ["CreateML", "KITTI", "TFRecord", "Encord", "Pascal VOC XML beside its images"])
def test_the_message_for_an_unread_format_contains_its_remedy(tmp_path, name):
    path, content = SAMPLES[name]
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(content)
    remedy = next(unread.remedy for unread in UNREAD_FORMATS if unread.name == name)
    with pytest.raises(ValueError, match="the layouts that are read") as error:
        find_splits(tmp_path)
    last = str(error.value).splitlines()[-1]
    assert f"{path} is recognised as {name}, which is not read" in last
    assert remedy in last


def test_a_file_in_an_unread_format_is_named(tmp_path):
    file = tmp_path / "project.csv"
    file.write_text(SAMPLES["Label Studio CSV"][1])
    with pytest.raises(
        ValueError, match="project.csv is recognised as Label Studio CSV, which is not read. Export it"
    ):
        find_splits_of_file(file)


def test_an_unknown_format_is_not_named(tmp_path):
    (tmp_path / "notes.txt").write_text("Pictures of fruit, taken in 2024\n")
    (tmp_path / "numbers.csv").write_text("a,b\n1,2\n")
    assert find_unread_format(tmp_path) is None
