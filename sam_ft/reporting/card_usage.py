"""Usage examples of a model card: Python code for Transformers, PEFT and this package."""

import json

from .card_facts import CardFacts


def uses_of(facts: CardFacts) -> list[dict[str, str]]:
    """
    Build the usage examples of a model.

    Args:
        facts (`CardFacts`): Content of the card.

    Returns:
        `list[dict[str, str]]`: Description (`what`) and `code` of each example.
    """
    return _uses_of_sam3(facts) if facts.family == "sam3" else _uses_of_sam2(facts)


def _uses_of_sam3(facts: CardFacts) -> list[dict[str, str]]:
    example_phrase = (facts.phrases or ["object"])[0]
    phrase, name = (json.dumps(text, ensure_ascii=False) for text in (example_phrase, facts.name))
    threshold = f"{facts.thresholds.of(example_phrase):.2f}" if facts.thresholds is not None else "0.5"
    adapter = facts.form == "adapter"
    base, pinned = (
        json.dumps(facts.base_id or "path/to/base"),
        f', revision="{facts.revision}"' if facts.revision else "",
    )
    imports, arguments = "import torch\nfrom transformers import Sam3Model, Sam3Processor\n\n", ""
    load = f"model = Sam3Model.from_pretrained({name})" + (
        "  # the base and this adapter; needs peft" if adapter else ""
    )
    if adapter and (facts.side or facts.revision):
        # the adapter's config contains neither the resolution nor the revision of the base
        imports = (
            "import torch\nfrom peft import PeftModel\n"
            "from transformers import Sam3Config, Sam3Model, Sam3Processor\n\n"
        )
        if facts.side:
            imports += (
                f"config = Sam3Config.from_pretrained({base}{pinned})\n"
                f"config.image_size = {facts.side}  # resolution of the training run, px\n"
            )
            arguments = ", config=config"
        load = f"model = PeftModel.from_pretrained(Sam3Model.from_pretrained({base}{pinned}{arguments}), {name})"
    plain_use = (
        imports + load + f"\nprocessor = Sam3Processor.from_pretrained({name})\n"
        f'inputs = processor(images=image, text={phrase}, return_tensors="pt")\n'
        "with torch.no_grad():\n    outputs = model(**inputs)\n"
        "results = processor.post_process_instance_segmentation(\n"
        f"    outputs, threshold={threshold}, target_sizes=[image.size[::-1]]\n"
        ")[0]\n"
        'masks, boxes, scores = results["masks"], results["boxes"], results["scores"]'
    )
    ours = (
        "from sam_ft import Sam3Predictor\n\n"
        f"predictor = Sam3Predictor.from_pretrained({name})\n"
        f'prediction = predictor(image, [{phrase}, "another phrase"])  # at the saved thresholds\n'
        f"for detection in prediction.detections[{phrase}]:\n"
        '    print(detection["score"], detection["bbox"])  # and detection["segmentation"], a COCO RLE'
    )
    has_temperature = facts.thresholds is not None and facts.thresholds.presence_temperature != 1
    note = (
        "; without the presence temperature, so that scores differ a little from those below"
        if has_temperature
        else ""
    )
    uses = [{"what": f"With Transformers alone (`image` is a PIL image{note}):", "code": plain_use}]
    if adapter:
        peft = (
            "from peft import PeftModel\nfrom transformers import Sam3Model\n\n"
            f"base = Sam3Model.from_pretrained({base}{pinned})\n"
            f"model = PeftModel.from_pretrained(base, {name})\n"
            "merged = model.merge_and_unload()  # a plain Sam3Model, as fast as the base"
        )
        uses.append({"what": "On a base that is already loaded, or to merge the adapter:", "code": peft})
    return [*uses, {"what": "With sam-ft, which trained it:", "code": ours}]


def _uses_of_sam2(facts: CardFacts) -> list[dict[str, str]]:
    name, base = json.dumps(facts.name, ensure_ascii=False), json.dumps(facts.base_id or "path/to/base")
    pinned = f', revision="{facts.revision}"' if facts.revision else ""
    imports, load = (
        "import torch\nfrom transformers import Sam2Model, Sam2Processor\n\n",
        f"model = Sam2Model.from_pretrained({name})",
    )
    if facts.form == "adapter":
        load += "  # the base and this adapter; needs peft"
        if facts.side or facts.revision:  # the adapter's config contains neither resolution nor revision of the base
            imports = (
                "import torch\nfrom peft import PeftModel\n"
                "from transformers import Sam2Config, Sam2Model, Sam2Processor\n\n"
            )
            arguments = ""
            if facts.side:
                imports += (
                    f"config, side = Sam2Config.from_pretrained({base}{pinned}), {facts.side}  # resolution, px\n"
                    "config.prompt_encoder_config.image_size, cell = side, config.prompt_encoder_config.patch_size\n"
                    "config.vision_config.backbone_config.image_size = [side, side]\n"
                    "config.vision_config.backbone_feature_sizes = [[side * n // cell] * 2 for n in (4, 2, 1)]\n"
                )
                arguments = ", config=config"
            load = f"model = PeftModel.from_pretrained(Sam2Model.from_pretrained({base}{pinned}{arguments}), {name})"
    code = (
        imports + load + f"\nprocessor = Sam2Processor.from_pretrained({name})\n"
        "# one object, clicked once inside (1) and once outside (0); or input_boxes=[[[x1, y1, x2, y2]]]\n"
        "points, labels = [[[[320, 240], [40, 40]]]], [[[1, 0]]]\n"
        'inputs = processor(images=image, input_points=points, input_labels=labels, return_tensors="pt")\n'
        "with torch.no_grad():\n    outputs = model(**inputs, multimask_output=False)\n"
        'mask = processor.post_process_masks(outputs.pred_masks, inputs["original_sizes"])[0][0, 0]'
    )
    ours = (
        "from sam_ft import ObjectPrompt, Sam2Predictor\n\n"
        f"predictor = Sam2Predictor.from_pretrained({name})\n"
        "prompts = [ObjectPrompt(points=[[320, 240, 1], [40, 40, 0]]), ObjectPrompt(box=[10, 20, 100, 80])]\n"
        "prediction = predictor(image, prompts)\n"
        'for detection in prediction.detections["object"]:\n'
        '    print(detection["predicted_iou"], detection["bbox"])  # and detection["segmentation"], a COCO RLE'
    )
    return [
        {
            "what": "With Transformers alone (`image` is a PIL image; a single click is ambiguous: "
            "`multimask_output=True` returns three masks):",
            "code": code,
        },
        {"what": "With sam-ft, which trained it:", "code": ours},
    ]
