"""Shared fixtures: a video model as base."""

import pytest
from transformers import Sam3TrackerVideoConfig, Sam3VideoConfig, Sam3VideoModel, Sam3VideoProcessor
from transformers.models.sam2_video.video_processing_sam2_video import Sam2VideoVideoProcessor

from sam_ft.models.sam3.config import build_tiny_config, build_tiny_processor


@pytest.fixture(scope="session")
def video_base(tmp_path_factory):
    """Save a `Sam3VideoModel` with the tiny detector and a tracker of one layer."""
    folder = tmp_path_factory.mktemp("video")
    tracker = Sam3TrackerVideoConfig(memory_attention_num_layers=1, memory_fuser_num_layers=1)
    Sam3VideoModel(Sam3VideoConfig(detector_config=build_tiny_config(), tracker_config=tracker)).save_pretrained(
        folder
    )
    image = build_tiny_processor()
    Sam3VideoProcessor(
        image.image_processor, Sam2VideoVideoProcessor(), image.tokenizer, target_size=96
    ).save_pretrained(folder)
    return folder
