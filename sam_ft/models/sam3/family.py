"""Specification of the family SAM 3."""

from pathlib import Path

from transformers import Sam3Config, Sam3Processor

from ...options.model_names import RANDOM_TINY, TINY
from ..family_spec import FamilyCard, FamilySpec
from ..parts import LearningRateGroups, ModelParts
from .config import build_tiny_config, build_tiny_processor, get_resolution, set_dropout, set_resolution
from .model import Sam3ForConceptSegmentation
from .official_dropout import apply_official_dropout
from .random_model import build_random_model


_PROJECTION = r"([qkvo]_proj|out_proj)"
_LICENCE = "https://github.com/facebookresearch/sam3/blob/main/LICENSE"

SAM3 = FamilySpec(
    key="sam3",
    title="SAM 3",
    example="facebook/sam3",
    recipes="sam3_ft.py, sam3_eval.py or sam3_predict.py",
    config_class=Sam3Config,
    model_class=Sam3ForConceptSegmentation,
    processor_class=Sam3Processor,
    tiny_name=TINY,
    tiny_folder=Path(__file__).parents[1] / "carried" / "tiny",
    random_name=RANDOM_TINY,
    build_tiny_config=build_tiny_config,
    build_tiny_processor=build_tiny_processor,
    build_random_model=build_random_model,
    get_resolution=get_resolution,
    set_resolution=set_resolution,
    encoders=("vision_encoder", "text_encoder"),
    parts=ModelParts(
        prefixes={
            "vision_trunk": ("vision_encoder.backbone.",),
            "vision_neck": ("vision_encoder.neck.",),
            "text_encoder": ("text_encoder.", "text_projection."),
            "geometry_encoder": ("geometry_encoder.",),
            "detr_encoder": ("detr_encoder.",),
            "detr_decoder": ("detr_decoder.",),
            "scoring": ("dot_product_scoring.",),
            "mask_decoder": ("mask_decoder.",),
        },
        groups={"vision_encoder": ("vision_trunk", "vision_neck")},
        # The neck's coarsest level, the pixel decoder's third stage, and CLIP's projection.
        unused=(
            "vision_encoder.neck.fpn_layers.3.",
            "mask_decoder.pixel_decoder.conv_layers.2.",
            "mask_decoder.pixel_decoder.norms.2.",
            "text_encoder.text_projection.",
        ),
        masks=("mask_decoder",),
    ),
    lora_presets={
        "attention": rf".*\.{_PROJECTION}",
        "attention+mlp": rf".*\.({_PROJECTION}|mlp\.fc[12])",
        "detr": r"(detr_encoder|detr_decoder|dot_product_scoring|mask_decoder)\..*",
        "vision": rf"vision_encoder\.backbone\..*\.({_PROJECTION}|mlp\.fc[12])",
        "text": rf"text_encoder\..*\.({_PROJECTION}|mlp\.fc[12])|text_projection",
    },
    rate_groups=LearningRateGroups(
        parts={"vision": ["vision_trunk", "vision_neck"], "text": ["text_encoder"]},
        layer=r"layers\.(\d+)\.",
        without_decay="position_embeddings",
    ),
    arguments="sam_ft.commands.run:SAM3_GROUPS",
    trainer="sam_ft.training.sam3_trainer:Sam3Trainer",
    build_trainer="sam_ft.commands.build_sam3:build_sam3_trainer",
    card=FamilyCard(
        task="it segments every instance of a noun phrase",
        metrics="COCO AP by pycocotools, cgF1 as in SAM 3's evaluator",
        tags=("sam3", "image-segmentation", "open-vocabulary"),
        licence="other",
        licence_notice=f"The weights are tuned from Meta's SAM 3 and stay under the [SAM License]({_LICENCE}).",
        licence_name="sam-license",
        licence_link=_LICENCE,
        usage="sam_ft.reporting.card_usage:uses_of_sam3",
    ),
    takes_phrases=True,
    model_settings=("with_masks", "pairs_per_chunk", "pair_checkpointing", "compile_vision"),
    loading_options=("concepts", "dropout", "official_dropout", "quantization"),
    has_flash_attention=False,  # it accepts neither position biases nor the float32 geometry encoder
    set_dropout=set_dropout,
    add_official_dropout=apply_official_dropout,
)
