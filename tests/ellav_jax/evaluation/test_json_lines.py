import pytest

from ellav_jax.errors import InputError
from ellav_jax.evaluation.json_lines import JsonLines


def test_lines_survive_a_cut_at_any_byte(tmp_path):
    path = tmp_path / "lines.jsonl"
    store = JsonLines(path)
    entries = [{"id": "a", "value": 1}, {"id": "ü", "value": None}, {"id": "c", "value": [1, 2]}]
    for entry in entries:
        store.append(entry)
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        found = JsonLines(path)
        assert found.entries == entries[: whole[:length].count(b"\n")]
        for entry in entries[len(found) :]:
            found.append(entry)
        assert path.read_bytes() == whole


def test_a_line_that_is_no_object_is_refused(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text('{"id": 1}\n[]\n')
    with pytest.raises(InputError, match=r"lines.jsonl, line 2: not a JSON object"):
        JsonLines(path)
