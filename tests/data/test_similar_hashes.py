"""Index of difference hashes, against a comparison of all pairs."""

import random

from sam_ft.data.validation.similar_hashes import SimilarHashes


def test_equal_hashes_and_those_one_bit_away_are_found():
    draws = random.Random(0)
    values = [draws.getrandbits(64) for _ in range(60)]
    values += [value ^ (1 << draws.randrange(64)) for value in values[:30]]
    values += [value ^ (1 << draws.randrange(64)) ^ 1 for value in values[:30]]  # mostly two bits away
    values += [values[3], 0, (1 << 64) - 1, 1]
    index, added, number = SimilarHashes(), {}, 0
    for value in values:
        other = draws.getrandbits(64)  # of a quarter turn
        expected = {
            entry
            for hash_, entry in added.items()
            if (value ^ hash_).bit_count() <= 1 and 8 <= value.bit_count() <= 56
        }
        found = list(index.find((value, other)))
        assert {entry for _, entry in found} == expected
        assert {relation for relation, _ in found} <= {"looks the same as"}
        number += len(found)
        index.add((value, other), len(added))
        added.setdefault(value, len(added))
    assert number >= 30


def test_the_relation_names_the_turn():
    index, upright, mirrored = SimilarHashes(), 0x0F0F_1234_5678_9ABC, 0x1357_9BDF_0246_8ACE
    index.add((upright,), "upright")
    hashes = [mirrored + i for i in range(0, 64, 8)]
    for position, text in ((0, ""), (1, ", turned 90° clockwise,"), (4, ", mirrored,"), (7, ", mirrored,")):
        turned = list(hashes)
        turned[position] = upright ^ 4
        assert list(index.find(tuple(turned))) == [(f"looks the same{text} as", "upright")]
