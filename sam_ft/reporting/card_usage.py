"""Usage examples of a model card: Python code for Transformers, PEFT and this package."""

import json

from ..options.concepts import CONCEPT_WEIGHTS
from .card_facts import CardFacts
from .template_rendering import render_template


_SAM_FT = "With sam-ft, which trained it:"


def uses_of_sam3(facts: CardFacts) -> list[dict[str, str]]:
    """
    Build the usage examples of a SAM 3.

    Args:
        facts (`CardFacts`): Content of the card.

    Returns:
        `list[dict[str, str]]`: Description (`what`) and `code` of each example.
    """
    phrase = (facts.phrases or ["object"])[0]
    thresholds = facts.thresholds
    values = {
        **_load_values(facts),
        "phrase": json.dumps(phrase, ensure_ascii=False),
        "threshold": "0.5" if thresholds is None else f"{thresholds.of(phrase):.2f}",
    }
    note = ""
    if thresholds is not None and thresholds.presence_temperature != 1:
        note = "; without the presence temperature, so that scores differ a little from those below"
    if facts.form == "concepts":
        values |= {
            "weights": json.dumps(f"{facts.name}/{CONCEPT_WEIGHTS}", ensure_ascii=False),
            "file": CONCEPT_WEIGHTS,
            "is_on_hub": facts.is_on_hub,
            "index": facts.concepts.index(phrase),
        }
        return [
            _use("With Transformers alone (`image` is a PIL image):", "sam3_concepts.py.j2", values),
            _use(f"{_SAM_FT[:-1]} (the base is loaded as well):", "sam3_predictor.py.j2", values),
        ]
    uses = [_use(f"With Transformers alone (`image` is a PIL image{note}):", "sam3_transformers.py.j2", values)]
    if facts.form == "adapter":
        uses.append(_use("On a base that is already loaded, or to merge the adapter:", "sam3_peft.py.j2", values))
    return [*uses, _use(_SAM_FT, "sam3_predictor.py.j2", values)]


def uses_of_sam2(facts: CardFacts) -> list[dict[str, str]]:
    """
    Build the usage examples of a SAM 2.

    Args:
        facts (`CardFacts`): Content of the card.

    Returns:
        `list[dict[str, str]]`: Description (`what`) and `code` of each example.
    """
    values = _load_values(facts)
    what = (
        "With Transformers alone (`image` is a PIL image; a single click is ambiguous: `multimask_output=True` "
        "returns three masks):"
    )
    return [_use(what, "sam2_transformers.py.j2", values), _use(_SAM_FT, "sam2_predictor.py.j2", values)]


def _load_values(facts: CardFacts) -> dict:
    """Return the variables of the code that loads a model; texts are Python literals."""
    is_adapter = facts.form == "adapter"
    return {
        "name": json.dumps(facts.name, ensure_ascii=False),
        "base": json.dumps(facts.base_id or "path/to/base"),
        "revision": f', revision="{facts.revision}"' if facts.revision else "",
        "side": facts.side,
        "is_adapter": is_adapter,
        # The adapter's config contains neither the resolution nor the revision of the base.
        "pinned_adapter": is_adapter and bool(facts.side or facts.revision),
    }


def _use(what: str, template: str, values: dict) -> dict[str, str]:
    return {"what": what, "code": render_template(template, **values).rstrip("\n")}
