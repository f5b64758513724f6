"""Reduced official SAM 3, composed from modules of the installed `sam3` package."""

import warnings

import torch
from torch import nn

from sam_ft.models.sam3.official_names import to_official

from . import official


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from sam3.model.data_misc import BatchedDatapoint, BatchedFindTarget, FindStage
    from sam3.model.decoder import TransformerDecoder, TransformerDecoderLayer
    from sam3.model.encoder import TransformerEncoderFusion, TransformerEncoderLayer
    from sam3.model.geometry_encoders import SequenceGeometryEncoder
    from sam3.model.maskformer_segmentation import PixelDecoder, UniversalSegmentationHead
    from sam3.model.model_misc import MLP, DotProductScoring, MultiheadAttentionWrapper, TransformerWrapper
    from sam3.model.necks import Sam3DualViTDetNeck
    from sam3.model.position_encoding import PositionEmbeddingSine
    from sam3.model.sam3_image import Sam3Image
    from sam3.model.text_encoder_ve import VETextEncoder
    from sam3.model.vitdet import ViT
    from sam3.model.vl_combiner import SAM3VLBackbone


def build(config, tokenize, checkpointing=False):
    """Build the package's `Sam3Image` for a `Sam3Config`, without dropout; `tokenize(texts)` returns ids, 0 for padding."""
    vit = config.vision_config.backbone_config
    decoder, encoder, geometry = config.detr_decoder_config, config.detr_encoder_config, config.geometry_encoder_config
    width = decoder.hidden_size

    def attention(batch_first):
        return MultiheadAttentionWrapper(
            num_heads=decoder.num_attention_heads, dropout=0.0, embed_dim=width, batch_first=batch_first
        )

    def encoder_layer(batch_first, at_self, at_keys):
        return TransformerEncoderLayer(
            activation="relu",
            d_model=width,
            dim_feedforward=encoder.intermediate_size,
            dropout=0.0,
            pos_enc_at_attn=at_self,
            pos_enc_at_cross_attn_keys=at_keys,
            pos_enc_at_cross_attn_queries=False,
            pre_norm=True,
            self_attention=attention(batch_first),
            cross_attention=attention(batch_first),
        )

    def sine():
        return PositionEmbeddingSine(num_pos_feats=width, normalize=True, scale=None, temperature=10000)

    trunk = ViT(
        img_size=config.image_size,
        pretrain_img_size=vit.pretrain_image_size,
        patch_size=vit.patch_size,
        embed_dim=vit.hidden_size,
        depth=vit.num_hidden_layers,
        num_heads=vit.num_attention_heads,
        mlp_ratio=vit.intermediate_size / vit.hidden_size,
        norm_layer="LayerNorm",
        drop_path_rate=0.0,
        qkv_bias=True,
        use_abs_pos=True,
        tile_abs_pos=True,
        global_att_blocks=tuple(vit.global_attn_indexes),
        rel_pos_blocks=(),
        use_rope=True,
        use_interp_rope=True,
        window_size=vit.window_size,
        pretrain_use_cls_token=True,
        retain_cls_token=False,
        ln_pre=True,
        ln_post=False,
        return_interm_layers=False,
        bias_patch_embed=False,
        use_act_checkpoint=checkpointing,
    )
    text = config.text_config
    text_encoder = VETextEncoder(
        d_model=width,
        tokenizer=lambda texts, context_length: tokenize(texts),
        width=text.hidden_size,
        heads=text.num_attention_heads,
        layers=text.num_hidden_layers,
        context_length=text.max_position_embeddings,
        vocab_size=text.vocab_size,
        use_act_checkpoint=checkpointing,
    )
    text_encoder.encoder.text_projection = nn.Parameter(torch.zeros(text.hidden_size, text.projection_dim))
    neck = Sam3DualViTDetNeck(
        position_encoding=sine(), d_model=width, scale_factors=[4.0, 2.0, 1.0, 0.5], trunk=trunk, add_sam2_neck=False
    )
    transformer = TransformerWrapper(
        encoder=TransformerEncoderFusion(
            layer=encoder_layer(True, True, False),
            num_layers=encoder.num_layers,
            d_model=width,
            num_feature_levels=1,
            frozen=False,
            use_act_checkpoint=True,  # required in train mode
            add_pooled_text_to_img_feat=False,
            pool_text_with_mask=True,
        ),
        decoder=TransformerDecoder(
            layer=TransformerDecoderLayer(
                activation="relu",
                d_model=width,
                dim_feedforward=decoder.intermediate_size,
                dropout=0.0,
                cross_attention=attention(False),
                n_heads=decoder.num_attention_heads,
                use_text_cross_attention=True,
            ),
            num_layers=decoder.num_layers,
            num_queries=decoder.num_queries,
            return_intermediate=True,
            box_refine=True,
            num_o2m_queries=0,
            dac=True,
            boxRPB="log",
            d_model=width,
            frozen=False,
            interaction_layer=None,
            dac_use_selfatt_ln=True,
            resolution=None,  # a number causes an allocation on CUDA
            stride=None,
            use_act_checkpoint=True,
            presence_token=True,
        ),
        d_model=width,
    )
    head = UniversalSegmentationHead(
        hidden_dim=width,
        upsampling_stages=3,
        aux_masks=False,
        presence_head=False,
        dot_product_scorer=None,
        act_ckpt=True,
        cross_attend_prompt=attention(False),
        pixel_decoder=PixelDecoder(num_upsampling_stages=3, interpolation_mode="nearest", hidden_dim=width),
    )
    scoring = DotProductScoring(
        d_model=width,
        d_proj=width,
        prompt_mlp=MLP(
            input_dim=width,
            hidden_dim=decoder.intermediate_size,
            output_dim=width,
            num_layers=2,
            dropout=0.0,
            residual=True,
            out_norm=nn.LayerNorm(width),
        ),
    )
    geometry_encoder = SequenceGeometryEncoder(
        pos_enc=sine(),
        encode_boxes_as_points=False,
        points_direct_project=True,
        points_pool=True,
        points_pos_enc=True,
        boxes_direct_project=True,
        boxes_pool=True,
        boxes_pos_enc=True,
        d_model=width,
        num_layers=geometry.num_layers,
        layer=encoder_layer(False, False, True),
        use_act_ckpt=True,
        add_cls=True,
        add_post_encode_proj=True,
    )
    return Sam3Image(
        backbone=SAM3VLBackbone(visual=neck, text=text_encoder, scalp=1),
        transformer=transformer,
        input_geometry_encoder=geometry_encoder,
        segmentation_head=head,
        num_feature_levels=1,
        o2m_mask_predict=True,
        dot_prod_scoring=scoring,
        use_instance_query=False,
        multimask_output=True,
        matcher=official.hungarian_matcher(),
    )


def copy_weights(model, reference):
    """Load the weights of our model into the package's model."""
    base = reference.state_dict()
    for value in base.values():
        if value.is_floating_point():
            value.nan_to_num_()  # some parameters are not initialised
    reference.load_state_dict(to_official(model.state_dict(), base))


def datapoint(batch, texts):
    """Convert a batch of ours to the package's batch."""
    counts = [len(i) for i in batch["pair_instances"]]
    rows = [(image, i) for image, ids in zip(batch["pair_image"], batch["pair_instances"]) for i in ids]
    boxes = torch.stack([batch["labels"][image]["boxes"][i] for image, i in rows]) if rows else torch.zeros(0, 4)
    masks = torch.stack([batch["labels"][image]["masks"][i] for image, i in rows]) if rows else None
    target = official.targets_for(boxes, counts, masks)
    valid = batch["input_boxes_labels"] != -10
    find = FindStage(
        img_ids=torch.tensor(batch["pair_image"]),
        text_ids=torch.tensor(batch["pair_phrase"]),
        input_boxes=batch["input_boxes"].transpose(0, 1),
        input_boxes_mask=~valid,
        input_boxes_label=batch["input_boxes_labels"].clamp(min=0).transpose(0, 1),
        input_points=torch.zeros(0, len(counts), 2),
        input_points_mask=torch.zeros(len(counts), 0, dtype=torch.bool),
    )
    find_target = BatchedFindTarget(
        num_boxes=target["num_boxes"],
        boxes=boxes,
        boxes_padded=target["boxes_padded"],
        repeated_boxes=torch.zeros(0, 4),
        segments=masks,
        semantic_segments=None,
        is_valid_segment=target["is_valid_mask"],
        is_exhaustive=target["is_exhaustive"],
        object_ids=target["object_ids_packed"],
        object_ids_padded=target["object_ids_padded"],
    )
    pixels = batch["pixel_values"].float() / 127.5 - 1
    return BatchedDatapoint(pixels, texts, [find], [find_target], find_metadatas=[None]), target
