"""How a tuned model is used, as the code on its card."""

import json

from .card_facts import CardFacts


def uses_of(facts: CardFacts) -> list[dict[str, str]]:
    """Ways to use the model: `what` in words and `code`."""
    return _uses_of_sam3(facts) if facts.family == "sam3" else _uses_of_sam2(facts)


def _uses_of_sam3(facts: CardFacts) -> list[dict[str, str]]:
    asked = (facts.phrases or ["object"])[0]
    phrase, name = (json.dumps(text, ensure_ascii=False) for text in (asked, facts.name))
    least = f"{facts.thresholds.of(asked):.2f}" if facts.thresholds is not None else "0.5"
    adapter = facts.form == "adapter"
    base, pinned = (
        json.dumps(facts.base_id or "path/to/base"),
        f', revision="{facts.revision}"' if facts.revision else "",
    )
    head, more = "import torch\nfrom transformers import Sam3Model, Sam3Processor\n\n", ""
    load = f"model = Sam3Model.from_pretrained({name})" + (
        "  # the base and this adapter; needs peft" if adapter else ""
    )
    if adapter and (facts.side or facts.revision):  # what Transformers does not know of the base
        head = "import torch\nfrom peft import PeftModel\nfrom transformers import Sam3Config, Sam3Model, Sam3Processor\n\n"
        if facts.side:
            head += f"config = Sam3Config.from_pretrained({base}{pinned})\nconfig.image_size = {facts.side}  # px it was tuned at\n"
            more = ", config=config"
        load = f"model = PeftModel.from_pretrained(Sam3Model.from_pretrained({base}{pinned}{more}), {name})"
    plain_use = (
        head + load + f"\nprocessor = Sam3Processor.from_pretrained({name})\n"
        f'inputs = processor(images=image, text={phrase}, return_tensors="pt")\n'
        "with torch.no_grad():\n    outputs = model(**inputs)\n"
        "found = processor.post_process_instance_segmentation(\n"
        f"    outputs, threshold={least}, target_sizes=[image.size[::-1]]\n"
        ")[0]\n"
        'masks, boxes, scores = found["masks"], found["boxes"], found["scores"]'
    )
    ours = (
        "from sam_ft import Sam3Predictor\n\n"
        f"predictor = Sam3Predictor.from_pretrained({name})\n"
        f'found = predictor(image, [{phrase}, "another phrase"])  # this model\'s own thresholds\n'
        f"for one in found.detections[{phrase}]:\n"
        '    print(one["score"], one["bbox"])  # and one["segmentation"], a COCO RLE'
    )
    calm = facts.thresholds is not None and facts.thresholds.presence_temperature != 1
    told = "; it leaves the presence temperature out, so that scores differ a little from those below" if calm else ""
    uses = [{"what": f"With Transformers alone (`image` is a PIL image{told}):", "code": plain_use}]
    if adapter:
        peft = (
            "from peft import PeftModel\nfrom transformers import Sam3Model\n\n"
            f"base = Sam3Model.from_pretrained({base}{pinned})\n"
            f"model = PeftModel.from_pretrained(base, {name})\n"
            "merged = model.merge_and_unload()  # a plain Sam3Model, as fast as the base"
        )
        uses.append({"what": "On a base that is loaded already, or to merge it:", "code": peft})
    return [*uses, {"what": "With sam-ft, which tuned it:", "code": ours}]


def _uses_of_sam2(facts: CardFacts) -> list[dict[str, str]]:
    name, base = json.dumps(facts.name, ensure_ascii=False), json.dumps(facts.base_id or "path/to/base")
    pinned = f', revision="{facts.revision}"' if facts.revision else ""
    head, load = (
        "import torch\nfrom transformers import Sam2Model, Sam2Processor\n\n",
        f"model = Sam2Model.from_pretrained({name})",
    )
    if facts.form == "adapter":
        load += "  # the base and this adapter; needs peft"
        if facts.side or facts.revision:  # what Transformers does not know of the base
            head = "import torch\nfrom peft import PeftModel\nfrom transformers import Sam2Config, Sam2Model, Sam2Processor\n\n"
            more = ""
            if facts.side:
                head += (
                    f"config, side = Sam2Config.from_pretrained({base}{pinned}), {facts.side}  # px it was tuned at\n"
                    "config.prompt_encoder_config.image_size, cell = side, config.prompt_encoder_config.patch_size\n"
                    "config.vision_config.backbone_config.image_size = [side, side]\n"
                    "config.vision_config.backbone_feature_sizes = [[side * n // cell] * 2 for n in (4, 2, 1)]\n"
                )
                more = ", config=config"
            load = f"model = PeftModel.from_pretrained(Sam2Model.from_pretrained({base}{pinned}{more}), {name})"
    code = (
        head + load + f"\nprocessor = Sam2Processor.from_pretrained({name})\n"
        "# one object, clicked once inside (1) and once outside (0); or input_boxes=[[[x1, y1, x2, y2]]]\n"
        'inputs = processor(images=image, input_points=[[[[320, 240], [40, 40]]]], input_labels=[[[1, 0]]], return_tensors="pt")\n'
        "with torch.no_grad():\n    outputs = model(**inputs, multimask_output=False)\n"
        'mask = processor.post_process_masks(outputs.pred_masks, inputs["original_sizes"])[0][0, 0]'
    )
    ours = (
        "from sam_ft import ObjectPrompt, Sam2Predictor\n\n"
        f"predictor = Sam2Predictor.from_pretrained({name})\n"
        "found = predictor(image, [ObjectPrompt(points=[[320, 240, 1], [40, 40, 0]]), ObjectPrompt(box=[10, 20, 100, 80])])\n"
        'for one in found.detections["object"]:\n'
        '    print(one["predicted_iou"], one["bbox"])  # and one["segmentation"], a COCO RLE'
    )
    return [
        {
            "what": "With Transformers alone (`image` is a PIL image; a single click is ambiguous: `multimask_output=True` gives three masks):",
            "code": code,
        },
        {"what": "With sam-ft, which tuned it:", "code": ours},
    ]
