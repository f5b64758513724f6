from sam_ft.data.readers.records import Record, Split, deduplicate_ids


def test_only_shared_ids_are_numbered(tmp_path):
    records = [Record(name, name, tmp_path / name, list) for name in ("a", "b", "a", "c")]
    split = Split("x", records, {})
    deduplicate_ids(split)
    assert [record.example_id for record in records] == ["a#1", "b", "a#2", "c"]
    (note,) = split.notes
    assert note.startswith("2 images share their name")
    deduplicate_ids(split)
    assert split.notes == [note]
