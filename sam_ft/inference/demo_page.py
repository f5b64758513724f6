"""Demo page in Gradio: one or two models side by side, prompted by phrases and exemplar boxes."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image, ImageDraw

from ..data.readers.files import images_in
from ..data.row_schema import to_rgb
from ..options.model import ModelOptions
from ..reporting.comparisons import append_legend
from ..reporting.phrase_colors import assign_colors
from ..reporting.pictures import draw_instances
from .exemplars import Exemplars
from .sam3_predictor import Sam3Predictor


POSITIVE, NEGATIVE = "positive exemplar", "negative exemplar"
_POSITIVE_COLOR, _NEGATIVE_COLOR = (43, 138, 62), (201, 42, 42)
MAX_EXAMPLES = 12


@dataclass
class Boxes:
    """
    Exemplar boxes that a user draws by clicks.

    Attributes:
        boxes (`list[list[float]]`): Finished boxes `(x, y, w, h)`, px.
        labels (`list[int]`): 1 for a positive exemplar, 0 for a negative one.
        corner (`tuple[float, float]`, *optional*): First of the two clicks of an unfinished box, px.
    """

    boxes: list[list[float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    corner: tuple[float, float] | None = None

    def click(self, x: float, y: float, positive: bool) -> "Boxes":
        """
        Add a click; two clicks on opposite corners make a box.

        Args:
            x (`float`): Horizontal position, px.
            y (`float`): Vertical position, px.
            positive (`bool`): Whether the box is a positive exemplar.

        Returns:
            `Boxes`: The boxes after the click.
        """
        if self.corner is None:
            return Boxes(self.boxes, self.labels, (x, y))
        left, top = min(x, self.corner[0]), min(y, self.corner[1])
        width, height = abs(x - self.corner[0]), abs(y - self.corner[1])
        if min(width, height) < 1:  # two clicks on one point make no box
            return Boxes(self.boxes, self.labels, (x, y))
        return Boxes([*self.boxes, [left, top, width, height]], [*self.labels, int(positive)])

    def exemplars(self) -> Exemplars | None:
        """Convert the finished boxes to a predictor's exemplars; `None` without any."""
        return Exemplars(self.boxes, self.labels) if self.boxes else None

    def drawn_on(self, image: Image.Image) -> Image.Image:
        """Draw the boxes and the corner of an unfinished box on a copy of the image."""
        canvas = image.copy()
        draw, width = ImageDraw.Draw(canvas), max(2, max(image.size) // 250)
        for (x, y, w, h), label in zip(self.boxes, self.labels, strict=True):
            draw.rectangle((x, y, x + w, y + h), outline=_POSITIVE_COLOR if label else _NEGATIVE_COLOR, width=width)
        if self.corner is not None:
            x, y = self.corner
            draw.line((x - 4 * width, y, x + 4 * width, y), fill=_POSITIVE_COLOR, width=width)
            draw.line((x, y - 4 * width, x, y + 4 * width), fill=_POSITIVE_COLOR, width=width)
        return canvas


def load_predictors(tuned: ModelOptions, base: str | None, device: str | None) -> dict[str, Sam3Predictor]:
    """
    Load the tuned model and, if it is named, the base.

    Args:
        tuned (`ModelOptions`): The tuned model.
        base (`str`, *optional*): Folder or Hub id of the base.
        device (`str`, *optional*): Device; the accelerator by default, if there is one.

    Returns:
        `dict[str, Sam3Predictor]`: Predictors by the names on the page.
    """
    names = {}
    if base is not None:
        names["base"] = replace(tuned, model_name_or_path=base, revision=None, concepts=[])
    names["tuned" if base is not None else Path(tuned.model_name_or_path).name] = tuned
    return {name: Sam3Predictor.load(options, device=device) for name, options in names.items()}


def predict_and_draw(
    predictors: dict[str, Sam3Predictor], image: Image.Image, text: str, boxes: Boxes, threshold: float | None
) -> tuple[list[Image.Image], list[list]]:
    """
    Predict one image with every model and draw the detections.

    Args:
        predictors (`dict[str, Sam3Predictor]`): Predictors by the names on the page.
        image (`PIL.Image.Image`): The image.
        text (`str`): Phrases, separated by commas or line breaks.
        boxes (`Boxes`): Exemplar boxes.
        threshold (`float`, *optional*): Score threshold of all phrases; each model's saved thresholds by default.

    Returns:
        `tuple[list[PIL.Image.Image], list[list]]`: One picture per model, and table rows of a phrase and each model's
            number of detections and best score.

    Raises:
        `ValueError`: If there is neither a phrase nor a positive exemplar box.
    """
    phrases = [part.strip() for part in text.replace("\n", ",").split(",") if part.strip()]
    image = to_rgb(image)
    pictures, rows = [], {}
    for name, predictor in predictors.items():
        saved_threshold = predictor.options.score_threshold
        predictor.options.score_threshold = threshold
        try:
            prediction = predictor(image, phrases, boxes.exemplars())
        finally:
            predictor.options.score_threshold = saved_threshold
        colors = assign_colors(prediction.detections)
        drawn = [
            (phrase, d.get("segmentation", {}).get("counts"), d["bbox"], d["score"])
            for phrase, detections in prediction.detections.items()
            for d in detections
        ]
        counts = {phrase: len(detections) for phrase, detections in prediction.detections.items()}
        picture = draw_instances(image, drawn, colors, f"{name}: {len(drawn)}")
        pictures.append(append_legend(picture, counts, colors))
        for phrase, detections in prediction.detections.items():
            best = f"{detections[0]['score']:.2f}" if detections else "–"
            rows.setdefault(phrase, [phrase]).append(f"{len(detections)} ({best})")
    return pictures, list(rows.values())


def _build_handlers(gr, predictors: dict[str, Sam3Predictor]) -> tuple[Callable, Callable, Callable, Callable]:
    """Build the handlers of a new image, a click, the button that clears boxes, and the button that predicts."""
    empty_results = [None] * len(predictors) + [[]]

    def on_image(image):
        return image, Boxes(), *empty_results

    def on_click(image, boxes, kind, event: gr.SelectData):
        if image is None:
            return None, boxes
        boxes = boxes.click(*event.index, positive=kind == POSITIVE)
        return boxes.drawn_on(image), boxes

    def on_clear(image):
        return image, Boxes()

    def on_predict(image, displayed, text, boxes, use_saved, threshold):
        image = displayed if image is None else image  # the upload event may arrive after the button's
        if image is None:
            raise gr.Error("Choose an image first.")
        try:
            pictures, rows = predict_and_draw(predictors, image, text, boxes, None if use_saved else threshold)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return *pictures, rows

    return on_image, on_click, on_clear, on_predict


def build_page(predictors: dict[str, Sam3Predictor], examples: str | None = None, phrases: list[str] | None = None):
    """
    Build the demo page.

    Args:
        predictors (`dict[str, Sam3Predictor]`): One or two predictors by the names on the page.
        examples (`str`, *optional*): Folder of example images.
        phrases (`list[str]`, *optional*): Initial content of the phrase field.

    Returns:
        `gradio.Blocks`: The page; `.launch()` serves it.

    Raises:
        `ImportError`: If Gradio is not installed.
    """
    try:
        import gradio as gr
    except ImportError as error:
        raise ImportError('the demo page needs Gradio: `pip install "sam-ft[demo]"`') from error

    on_image, on_click, on_clear, on_predict = _build_handlers(gr, predictors)
    with gr.Blocks(title="sam-ft") as page:
        gr.Markdown(
            "# SAM 3: every instance of a phrase\n"
            "Choose an image and enter phrases, or click two opposite corners of an exemplar box."
        )
        picture, boxes = gr.State(None), gr.State(Boxes())
        with gr.Row():
            with gr.Column():
                image = gr.Image(type="pil", show_label=False, height=420, elem_id="picture")
            with gr.Column():
                text = gr.Textbox(", ".join(phrases or []), label="Phrases, separated by commas", elem_id="phrases")
                kind = gr.Radio([POSITIVE, NEGATIVE], value=POSITIVE, label="The next box is a")
                clear = gr.Button("Clear boxes", elem_id="clear")
                use_saved = gr.Checkbox(True, label="Use each model's saved thresholds")
                threshold = gr.Slider(
                    0.05, 0.95, 0.5, step=0.05, label="Score threshold of all phrases, without saved thresholds"
                )
                button = gr.Button("Find", variant="primary", elem_id="find")
        with gr.Row():
            results = [gr.Image(label=name, interactive=False, elem_classes="found") for name in predictors]
        table = gr.Dataframe(
            headers=["phrase", *(f"{name}: detections (best score)" for name in predictors)], elem_id="table"
        )
        outputs = [picture, boxes, *results, table]
        if examples is not None:
            files = [[str(file)] for file in images_in(Path(examples))[:MAX_EXAMPLES]]
            gr.Examples(files, [image], outputs, on_image, run_on_click=True, cache_examples=False)
        image.upload(on_image, image, outputs)
        image.clear(lambda: on_image(None), None, outputs)
        image.select(on_click, [picture, boxes, kind], [image, boxes])
        clear.click(on_clear, picture, [image, boxes])
        for event in (button.click, text.submit):
            event(on_predict, [picture, image, text, boxes, use_saved, threshold], [*results, table])
    return page
