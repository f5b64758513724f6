"""Demo page: its functions, and the page in a browser (`make test-browser`)."""

import os
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
from PIL import Image

from sam_ft import Sam3Predictor
from sam_ft.inference.demo_page import Boxes, load_predictors, predict_and_draw
from sam_ft.inference.phrases import list_phrases
from sam_ft.options.model import ModelOptions
from sam_ft.options.model_names import TINY

from ..training.common import ROOT, build


def test_two_clicks_make_a_box():
    boxes = Boxes().click(50, 40, True)
    assert boxes.corner == (50, 40)
    assert boxes.exemplars() is None
    boxes = boxes.click(10, 60, True).click(5, 5, False).click(5, 5, False).click(9, 8, False)
    assert boxes.exemplars().boxes == [[10, 40, 40, 20], [5, 5, 4, 3]]
    assert boxes.exemplars().labels == [1, 0]
    picture = Image.new("RGB", (80, 80), "white")
    drawn = np.asarray(boxes.drawn_on(picture))
    assert tuple(drawn[40, 30]) == (43, 138, 62)
    assert tuple(drawn[5, 7]) == (201, 42, 42)
    assert (np.asarray(picture) == 255).all(), "the original image is unchanged"


def test_both_models_predict(shapes):
    image = Image.open(sorted((shapes / "train").glob("*.png"))[0])
    predictors = {"base": Sam3Predictor.from_pretrained(TINY, device="cpu")}
    predictors["tuned"] = predictors["base"]
    pictures, rows = predict_and_draw(predictors, image, "circle, triangle\n rectangle,", Boxes(), 0.1)
    assert len(pictures) == 2
    assert [row[0] for row in rows] == ["circle", "triangle", "rectangle"]
    assert all(len(row) == 3 and row[1] == row[2] for row in rows)
    assert any(not row[1].startswith("0") for row in rows)
    assert predictors["base"].options.score_threshold is None
    with pytest.raises(ValueError, match="has no prompt"):
        predict_and_draw(predictors, image, " , ", Boxes(), None)


def test_the_base_has_no_concepts_and_the_page_offers_their_phrases(shapes, tmp_path):
    trainer = build(shapes, tmp_path, TINY, model={"concept_tokens": 2}, max_steps=1)
    trainer.save_model()
    tuned = ModelOptions(TINY, concepts=[str(tmp_path)])
    assert list_phrases(tuned) == ["circle", "rectangle", "triangle"] == list_phrases(ModelOptions(str(tmp_path)))
    predictors = load_predictors(tuned, TINY, "cpu")
    image = Image.open(sorted((shapes / "train").glob("*.png"))[0])
    base, concept, text = (
        predictors[name](image, [phrase]).presence[phrase]
        for name, phrase in (("base", "circle"), ("tuned", "circle"), ("tuned", "base:circle"))
    )
    assert base == text != concept


@pytest.mark.browser
def test_the_page_in_a_browser(shapes, tmp_path):
    from playwright.sync_api import expect, sync_playwright

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        str(ROOT / "recipes" / "demo.py"),
        "--base",
        "sam-ft/random-tiny",
        "--examples",
        str(shapes / "train"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GRADIO_ANALYTICS_ENABLED": "False", "NO_PROXY": "127.0.0.1"}
    server = subprocess.Popen([*command, "--port", str(port)], env=environment, cwd=tmp_path)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(120):
            try:
                urllib.request.urlopen(address)
                break
            except OSError:
                time.sleep(1)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            problems = []
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.goto(address)
            page.set_input_files("#picture input[type=file]", str(sorted((shapes / "train").glob("*.png"))[0]))
            picture = page.locator("#picture img").first
            expect(picture).to_be_visible(timeout=20_000)
            page.locator("#phrases textarea").fill("circle, triangle")
            page.locator("#find").click()
            expect(page.locator(".found img").nth(1)).to_be_visible(timeout=30_000)
            expect(page.locator("#table")).to_contain_text("triangle")
            page.screenshot(path=str(tmp_path / "phrases.png"), full_page=True)
            # two clicks draw an exemplar box, without a phrase
            for share in (0.25, 0.6):
                picture = page.locator("#picture img").first
                before, frame = picture.get_attribute("src"), picture.bounding_box()
                # Gradio centres small images in the frame without enlarging them
                x, y = frame["width"] / 2 + (share - 0.5) * 160, frame["height"] / 2 + (share - 0.5) * 120
                picture.click(position={"x": x, "y": y})
                expect(page.locator("#picture img").first).not_to_have_attribute("src", before, timeout=20_000)
                page.wait_for_timeout(1000)
            page.locator("#phrases textarea").fill("")
            page.locator("#find").click()
            expect(page.locator("#table")).to_contain_text("visual", timeout=30_000)
            page.screenshot(path=str(tmp_path / "exemplar.png"), full_page=True)
            page.locator("#clear").click()
            page.wait_for_timeout(1500)
            page.locator("#find").click()
            expect(page.get_by_text("has no prompt")).to_be_visible(timeout=20_000)
            # an example replaces the upload
            page.locator("button.gallery-item").nth(1).click()
            page.wait_for_timeout(2000)
            page.locator("#phrases textarea").fill("circle")
            page.locator("#find").click()
            expect(page.locator("#table")).to_contain_text("circle", timeout=30_000)
            page.screenshot(path=str(tmp_path / "example.png"), full_page=True)
            assert not problems
            browser.close()
    finally:
        server.kill()
        server.wait()
