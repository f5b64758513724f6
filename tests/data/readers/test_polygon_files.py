from sam_ft.data.readers.polygon_files import find


def test_a_folder_of_other_json_files_is_another_layout(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations").mkdir()
    file = tmp_path / "annotations" / "a.json"
    for text, is_found in (('{"instances": []}', True), ("{", False), ("[]", False), ('{"instances": {}}', False)):
        file.write_text(text)
        assert (find(tmp_path) is not None) == is_found
