"""Specification of the family SAM 2."""

from pathlib import Path

from transformers import Sam2Config, Sam2Processor

from ...options.model_names import RANDOM_TINY_SAM2, TINY_SAM2
from ..family_spec import FamilyCard, FamilySpec
from ..parts import LearningRateGroups, ModelParts
from .config import build_tiny_config, build_tiny_processor, get_resolution, set_resolution
from .model import Sam2ForPromptSegmentation
from .random_model import build_random_model


_PROJECTION = r"([qkvo]_proj|out_proj)"

SAM2 = FamilySpec(
    key="sam2",
    title="SAM 2",
    example="facebook/sam2.1-hiera-base-plus",
    recipes="sam2_ft.py, sam2_eval.py or sam2_predict.py",
    config_class=Sam2Config,
    model_class=Sam2ForPromptSegmentation,
    processor_class=Sam2Processor,
    tiny_name=TINY_SAM2,
    tiny_folder=Path(__file__).parents[1] / "carried" / "tiny_sam2",
    random_name=RANDOM_TINY_SAM2,
    build_tiny_config=build_tiny_config,
    build_tiny_processor=build_tiny_processor,
    build_random_model=build_random_model,
    get_resolution=get_resolution,
    set_resolution=set_resolution,
    encoders=("vision_encoder",),
    parts=ModelParts(
        prefixes={
            "vision_trunk": ("vision_encoder.backbone.",),
            "vision_neck": ("vision_encoder.neck.",),
            # Applied once an image, like the encoder, although two of them are modules of the mask decoder.
            "vision_projections": ("mask_decoder.conv_s0.", "mask_decoder.conv_s1.", "no_memory_embedding"),
            "prompt_encoder": ("prompt_encoder.",),
            "mask_decoder": (
                "mask_decoder.transformer.",
                "mask_decoder.upscale_",
                "mask_decoder.output_hypernetworks_mlps.",
                "mask_decoder.mask_tokens.",
                "mask_decoder.iou_",
                "mask_decoder.obj_score_token.",
                "mask_decoder.pred_obj_score_head.",
            ),
        },
        groups={"vision_encoder": ("vision_trunk", "vision_neck", "vision_projections")},
    ),
    lora_presets={
        "attention": rf".*\.({_PROJECTION}|qkv|attn\.proj)",
        "attention+mlp": rf".*\.({_PROJECTION}|qkv|attn\.proj|mlp\.proj_(in|out))",
        "decoder": rf"mask_decoder\.transformer\..*\.({_PROJECTION}|mlp\.proj_(in|out))",
        "vision": r"vision_encoder\.backbone\..*\.(attn\.(qkv|proj)|mlp\.proj_(in|out))",
    },
    rate_groups=LearningRateGroups(
        parts={"vision": ["vision_trunk", "vision_neck"]}, layer=r"blocks\.(\d+)\.", without_decay="pos_embed"
    ),
    arguments="sam_ft.commands.run:SAM2_GROUPS",
    trainer="sam_ft.training.sam2_trainer:Sam2Trainer",
    build_trainer="sam_ft.commands.build_sam2:build_sam2_trainer",
    card=FamilyCard(
        task="it segments an object from clicks or a box",
        metrics="Each labelled object is prompted once, by a click at its centre or by its box; each further click is "
        "at the centre of the largest error",
        tags=("sam2", "image-segmentation", "interactive-segmentation"),
        licence="apache-2.0",
        licence_notice="The weights are tuned from a local SAM 2 and stay under its licence.",
        usage="sam_ft.reporting.card_usage:uses_of_sam2",
    ),
    takes_phrases=False,
    evaluation_prompts=("point", "box"),
    model_settings=("objects_per_chunk",),
)
