"""A page to try models side by side: a picture, phrases, exemplar boxes."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image, ImageDraw

from ..data.readers.files import images_in
from ..data.row_schema import to_rgb
from ..models.loading import ModelOptions
from ..reporting.pictures import color_of, draw_instances
from .sam3_predictor import Exemplars, Sam3Predictor


_POSITIVE, _NEGATIVE = (43, 138, 62), (201, 42, 42)
EXAMPLES = 12


@dataclass
class Boxes:
    """Exemplar boxes as they are clicked: `corner` is the first of two clicks, px."""

    boxes: list[list[float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    corner: tuple[float, float] | None = None

    def click(self, x: float, y: float, positive: bool) -> "Boxes":
        """The boxes after another click: two opposite corners make a box."""
        if self.corner is None:
            return Boxes(self.boxes, self.labels, (x, y))
        left, top = min(x, self.corner[0]), min(y, self.corner[1])
        width, height = abs(x - self.corner[0]), abs(y - self.corner[1])
        if min(width, height) < 1:  # the same point twice
            return Boxes(self.boxes, self.labels, (x, y))
        return Boxes([*self.boxes, [left, top, width, height]], [*self.labels, int(positive)])

    def exemplars(self) -> Exemplars | None:
        return Exemplars(self.boxes, self.labels) if self.boxes else None

    def drawn_on(self, image: Image.Image) -> Image.Image:
        """A copy of the picture with the boxes and a corner that waits for the second click."""
        shown = image.copy()
        draw, width = ImageDraw.Draw(shown), max(2, max(image.size) // 250)
        for (x, y, w, h), label in zip(self.boxes, self.labels, strict=True):
            draw.rectangle((x, y, x + w, y + h), outline=_POSITIVE if label else _NEGATIVE, width=width)
        if self.corner is not None:
            x, y = self.corner
            draw.line((x - 4 * width, y, x + 4 * width, y), fill=_POSITIVE, width=width)
            draw.line((x, y - 4 * width, x, y + 4 * width), fill=_POSITIVE, width=width)
        return shown


def load_predictors(tuned: ModelOptions, base: str | None, device: str | None) -> dict[str, Sam3Predictor]:
    """The base, where one is named, and the tuned model, by the names that the page shows."""
    names = {"base": replace(tuned, model_name_or_path=base, revision=None)} if base is not None else {}
    names["tuned" if base is not None else Path(tuned.model_name_or_path).name] = tuned
    return {name: Sam3Predictor.load(options, device=device) for name, options in names.items()}


def find(
    predictors: dict[str, Sam3Predictor], image: Image.Image, text: str, boxes: Boxes, threshold: float | None
) -> tuple[list[Image.Image], list[list]]:
    """
    What each model finds.

    Args:
        predictors (`dict[str, Sam3Predictor]`): by the name that is shown. image (`PIL.Image.Image`). text (`str`): phrases with commas between.
        boxes (`Boxes`). threshold (`float`, *optional*): of all phrases, instead of each model's own.

    Returns:
        `list[PIL.Image.Image]`: a picture a model. `list[list]`: rows of phrase, and each model's count and best score.

    Raises:
        `ValueError`: where nothing is asked.
    """
    phrases = [part.strip() for part in text.replace("\n", ",").split(",") if part.strip()]
    image = to_rgb(image)
    pictures, rows = [], {}
    for name, predictor in predictors.items():
        own = predictor.options.score_threshold
        predictor.options.score_threshold = threshold
        try:
            found = predictor(image, phrases, boxes.exemplars())
        finally:
            predictor.options.score_threshold = own
        colors = {phrase: color_of(i) for i, phrase in enumerate(found.detections)}
        drawn = [
            (phrase, one.get("segmentation", {}).get("counts"), one["bbox"], one["score"])
            for phrase, listed in found.detections.items()
            for one in listed
        ]
        pictures.append(draw_instances(image, drawn, colors, f"{name}: {len(drawn)}"))
        for phrase, listed in found.detections.items():
            best = f"{listed[0]['score']:.2f}" if listed else "–"
            rows.setdefault(phrase, [phrase]).append(f"{len(listed)} ({best})")
    return pictures, list(rows.values())


def build_page(predictors: dict[str, Sam3Predictor], examples: str | None = None, phrases: list[str] | None = None):
    """
    A Gradio page; `.launch()` serves it.

    Args:
        predictors (`dict[str, Sam3Predictor]`): one or two models by the names that are shown.
        examples (`str`, *optional*): folder whose pictures are offered. phrases (`list[str]`, *optional*): what is asked at first.

    Raises:
        `ImportError`: where Gradio is not installed.
    """
    try:
        import gradio as gr
    except ImportError as error:
        raise ImportError("the demo page needs Gradio: `pip install sam-ft[demo]`") from error

    nothing = [None] * len(predictors) + [[]]

    def chosen(image):
        return image, Boxes(), *nothing

    def clicked(image, boxes, kind, event: gr.SelectData):
        if image is None:
            return None, boxes
        boxes = boxes.click(*event.index, positive=kind == "such a thing")
        return boxes.drawn_on(image), boxes

    def cleared(image):
        return image, Boxes()

    def asked(image, shown, text, boxes, own, threshold):
        image = shown if image is None else image  # asked before the upload was noticed
        if image is None:
            raise gr.Error("Choose a picture first.")
        try:
            pictures, rows = find(predictors, image, text, boxes, None if own else threshold)
        except ValueError as error:
            raise gr.Error(str(error)) from error
        return *pictures, rows

    with gr.Blocks(title="sam-ft") as page:
        gr.Markdown(
            "# SAM 3: a phrase, every instance\nChoose a picture, name what to find, or click two corners of a box around one."
        )
        picture, boxes = gr.State(None), gr.State(Boxes())
        with gr.Row():
            with gr.Column():
                image = gr.Image(type="pil", show_label=False, height=420, elem_id="picture")
            with gr.Column():
                text = gr.Textbox(", ".join(phrases or []), label="Phrases, with commas between", elem_id="phrases")
                kind = gr.Radio(["such a thing", "none such"], value="such a thing", label="The next box shows")
                clear = gr.Button("Clear boxes", elem_id="clear")
                own = gr.Checkbox(True, label="each model's own thresholds")
                threshold = gr.Slider(
                    0.05, 0.95, 0.5, step=0.05, label="Score from which on all phrases count, without them"
                )
                ask = gr.Button("Find", variant="primary", elem_id="find")
        with gr.Row():
            found = [gr.Image(label=name, interactive=False, elem_classes="found") for name in predictors]
        table = gr.Dataframe(
            headers=["phrase", *(f"{name}: found (best score)" for name in predictors)], elem_id="table"
        )
        fresh = [picture, boxes, *found, table]
        if examples is not None:
            listed = [[str(file)] for file in images_in(Path(examples))[:EXAMPLES]]
            gr.Examples(listed, [image], fresh, chosen, run_on_click=True, cache_examples=False)
        image.upload(chosen, image, fresh)
        image.clear(lambda: chosen(None), None, fresh)
        image.select(clicked, [picture, boxes, kind], [image, boxes])
        clear.click(cleared, picture, [image, boxes])
        for event in (ask.click, text.submit):
            event(asked, [picture, image, text, boxes, own, threshold], [*found, table])
    return page
