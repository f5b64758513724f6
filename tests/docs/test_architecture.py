"""Picture of the architecture: it is the one that the script draws from the imports."""

import runpy

from .pages import ROOT


def test_picture_follows_the_imports():
    script = runpy.run_path(str(ROOT / "docs" / "site" / "architecture.py"))
    assert script["PICTURE"].read_text(encoding="utf-8") == script["draw"](), "run `python docs/site/architecture.py`"
    levels = script["compute_levels"](script["read_imports"]())
    assert levels["commands"] == 0
    assert levels["models"] < levels["losses"] < levels["ops"]
