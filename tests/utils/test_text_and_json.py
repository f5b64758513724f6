"""Text of messages, strict JSON, and redaction of secrets."""

import json
import math

import pytest

from sam_ft.utils.json_files import read_json_file, write_json
from sam_ft.utils.secrets import check_no_secrets, is_secret_key, redact, register_secret
from sam_ft.utils.text import escape_control_characters, list_some, short_repr


def test_representations_are_bounded():
    bomb = ["x" * 1000]
    for _ in range(30):
        bomb = [bomb] * 10
    assert len(short_repr(bomb)) < 5000
    assert list_some("abcde", 2) == "a, b and 3 more"


def test_control_characters_are_escaped():
    assert escape_control_characters("\x1b[31mcat\x07\n") == "\\x1b[31mcat\\x07\n"
    assert escape_control_characters("café 猫") == "café 猫"


@pytest.mark.parametrize("content, path", [({"a": [1.0, math.nan]}, r"a\[1\]"), ({"loss": math.inf}, "loss")])
def test_json_never_contains_nan(tmp_path, content, path):
    file = tmp_path / "results.json"
    write_json(file, {"before": 1})
    with pytest.raises(ValueError, match=rf"results.json: `{path}` is not a finite number"):
        write_json(file, content)
    assert json.loads(file.read_text()) == {"before": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize("text", ["", "{", "\xff", "[" * 100_000])
def test_damaged_json_is_named(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"`key`: .*a.json cannot be read as JSON"):
        read_json_file(tmp_path / "a.json", "key")


def test_secrets_of_all_sources_are_redacted(monkeypatch, tmp_path):
    monkeypatch.setenv("SOME_API_KEY", "from-the-environment")
    register_secret("registered-value")
    text = "a registered-value b from-the-environment c hf_abcdefghijklmnopqrst d"
    assert redact(text) == "a <redacted> b <redacted> c <redacted> d"
    (tmp_path / "weights.bin").write_bytes(b"\0\1registered-value\2")
    with pytest.raises(ValueError, match="weights.bin contains an access token"):
        check_no_secrets([tmp_path / "weights.bin"])
    assert is_secret_key("hub_token")
    assert not is_secret_key("geometry_token")
