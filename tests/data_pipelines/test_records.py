import hashlib
import json
import pickle
import shutil
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from data_pipelines.records import Dataset, Record, RecordSource, ShardFile, shard_name, shard_of
from ellav_jax.errors import InputError


def _record(utterance_id="84-121550-0003", durations=(3, 1, 8), frames=None, seed=0, **changes):
    random = np.random.default_rng(seed)
    durations = np.array(durations, np.int32)
    fields = {
        "id": utterance_id,
        "text": "Señor, “press” 1 …",
        "speaker": "84",
        "phones_N": random.integers(0, 40, len(durations)).astype(np.uint16),
        "durations_N": durations,
        "codes_Tx8": random.integers(0, 1024, (durations.sum() if frames is None else frames, 8)).astype(np.uint16),
    }
    return Record(**(fields | changes))


def _same(a, b):
    assert (a.id, a.text, a.speaker) == (b.id, b.text, b.speaker)
    for name in ("phones_N", "durations_N", "codes_Tx8"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), strict=True)


def test_bytes_and_back():
    record = _record()
    _same(Record.from_bytes(record.to_bytes(), "here"), record)


def test_equal_records_give_equal_bytes():
    assert len({_record().to_bytes() for _ in range(20)}) == 1


def test_the_bytes_are_the_documented_safetensors_layout():
    record = _record()
    data = record.to_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    utterance = json.loads(header["__metadata__"]["utterance"])
    assert utterance == {"id": record.id, "text": record.text, "speaker": record.speaker}
    assert (header["codes"]["dtype"], header["codes"]["shape"]) == ("U16", [12, 8])
    assert (header["durations"]["dtype"], header["phones"]["dtype"]) == ("I32", "U16")
    begin, end = header["codes"]["data_offsets"]
    assert data[8 + size + begin : 8 + size + end] == record.codes_Tx8.tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"durations": (400, 12), "frames": 415},
            r"alignment of 84-121550-0003 covers 412 frames, codes have 415; they must come from the same samples",
        ),
        ({"durations": (4, 0, 1)}, r"a phone lasts 0 frames; expected at least 1"),
        ({"durations": (4, -1, 1)}, r"a phone lasts -1 frames"),
        ({"durations": ()}, r"0 phones and 0 durations"),
        ({"phones_N": np.zeros(2, np.uint16)}, r"2 phones and 3 durations"),
        ({"phones_N": np.zeros(3, np.int64)}, r"phones_N is int64 \[3\], expected uint16"),
        ({"codes_Tx8": np.zeros(12, np.uint16)}, r"codes_Tx8 is uint16 \[12\], expected uint16 with 2 dimensions"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        _record(**change)


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-1], lambda data: b"{}" * 50])
def test_bytes_that_are_no_record_are_refused(damage):
    with pytest.raises(InputError, match=r"shard 7: not a record .*; prepare the data set again"):
        Record.from_bytes(damage(_record().to_bytes()), "shard 7")


def test_the_shard_is_a_function_of_the_id_alone():
    ids = [f"utterance-{i}" for i in range(1000)]
    for one in ids:
        assert shard_of(one, 8) == int(hashlib.sha256(one.encode()).hexdigest()[:16], 16) % 8
    counts = np.bincount([shard_of(one, 8) for one in ids])
    assert counts.min() > 80


def _write_shard(path, records):
    file = ShardFile(path)
    for record in records:
        file.write(record)
    return file.close()


def test_shards_give_back_every_record_in_the_order_of_the_lengths(tmp_path):
    records = [_record(f"u{i}", durations=range(1, 3 + i % 7), seed=i) for i in range(50)]
    names = [shard_name("train", i, 3) for i in range(3)]
    assert names[1] == "train-00001-of-00003.array_record"
    # The second shard is empty.
    contents = [_write_shard(tmp_path / names[i], part) for i, part in enumerate([records[:20], [], records[20:]])]
    shards = [{"file": one.file, "records": len(one.ids_N), "bytes": one.bytes} for one in contents]
    assert [shard["records"] for shard in shards] == [20, 0, 30]
    assert [shard["bytes"] for shard in shards] == [(tmp_path / name).stat().st_size for name in names]
    source = RecordSource(tmp_path, shards)
    assert len(source) == 50
    for i, record in enumerate(records):
        _same(source[i], record)
    assert [one.decode() for one in np.concatenate([one.ids_N for one in contents])] == [one.id for one in records]
    for name in ("phones", "frames"):
        lengths = np.concatenate([getattr(one, f"{name}_N") for one in contents])
        assert lengths.tolist() == [getattr(record, f"num_{name}") for record in records]
    assert frozenset.union(*(one.speakers for one in contents)) == {record.speaker for record in records}


def test_the_source_works_in_threads_and_after_pickling(prepared_bundled):
    source = Dataset.open(prepared_bundled).records("train")
    expected = [source[i].id for i in range(len(source))]
    copy = pickle.loads(pickle.dumps(source))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda i: copy[i].id, range(len(copy)))) == expected
    for index in (-1, len(source)):
        with pytest.raises(IndexError):
            source[index]


def test_a_data_set_says_what_it_holds(prepared_bundled):
    dataset = Dataset.open(prepared_bundled)
    assert dataset.splits == ("train", "test")
    for split, count in (("train", 18), ("test", 7)):
        source, ids = dataset.records(split), dataset.ids(split)
        phones_N, frames_N = dataset.lengths(split)
        assert len(source) == len(ids) == len(phones_N) == len(frames_N) == count
        assert phones_N.dtype == frames_N.dtype == np.int32
        for i in range(count):
            record = source[i]
            assert (record.id, record.num_phones, record.num_frames) == (ids[i], phones_N[i], frames_N[i])
        assert dataset.info["splits"][split]["frames"] == frames_N.sum()
        assert dataset.info["splits"][split]["phones"] == phones_N.sum()
        assert dataset.info["splits"][split]["hours"] == pytest.approx(frames_N.sum() / 75 / 3600)
    assert dataset.info["codec"]["num_codebooks"] == 8
    assert dataset.info["phones"] == list(dataset.frontend.phones)
    assert "Allison Smith" in dataset.info["corpus"]["attribution"]
    with pytest.raises(InputError, match=r"no split 'dev'; it has: train, test"):
        dataset.records("dev")


def _edit_description(path, **changes):
    description = json.loads((path / "dataset.json").read_text())
    (path / "dataset.json").write_text(json.dumps(description | changes))


def _edit_frontend(path):
    frontend = json.loads((path / "frontend.json").read_text())
    frontend["phones"] = frontend["phones"][:-1]
    (path / "frontend.json").write_text(json.dumps(frontend))


def _cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


def _lengths(path, **arrays):
    with open(path, "wb") as file:
        np.savez(file, **arrays)


SHARD = "train-00001-of-00002.array_record"
DAMAGE = {
    "no such folder": (lambda d: shutil.rmtree(d), "no such data set"),
    "another folder": (lambda d: (d / "dataset.json").unlink(), "not a data set .it has no dataset.json"),
    "not JSON": (lambda d: (d / "dataset.json").write_text("{"), "not valid JSON"),
    "other JSON": (lambda d: (d / "dataset.json").write_text("[]"), "not the description"),
    "newer": (lambda d: _edit_description(d, schema_version=99), "schema version 99, this ellav-jax reads up to 1"),
    "shard missing": (lambda d: (d / SHARD).unlink(), f"{SHARD}: this shard of the data set is missing"),
    "shard cut": (lambda d: _cut(d / SHARD), rf"{SHARD}: \d+ bytes, dataset.json says \d+"),
    "no frontend": (lambda d: (d / "frontend.json").unlink(), "no such frontend description"),
    "other phones": (_edit_frontend, "frontend.json and dataset.json list different phones"),
    "no lengths": (lambda d: (d / "lengths.npz").unlink(), "lengths.npz: missing"),
    "lengths cut": (lambda d: _cut(d / "lengths.npz"), "lengths.npz: damaged"),
    "lengths empty": (lambda d: _lengths(d / "lengths.npz"), "0 entries in train/ids, dataset.json says 18"),
    "lengths pickled": (
        lambda d: _lengths(d / "lengths.npz", **{"train/ids": np.array([{"a": 1}], dtype=object)}),
        "lengths.npz: damaged .*pickle",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_folder_that_is_no_whole_data_set_is_refused(tmp_path, prepared_bundled, kind):
    copy = tmp_path / "copy"
    shutil.copytree(prepared_bundled, copy)
    damage, message = DAMAGE[kind]
    damage(copy)
    with pytest.raises(InputError, match=message) as caught:
        Dataset.open(copy)
    assert str(copy) in str(caught.value)


def test_a_flipped_bit_in_a_shard_is_found_on_reading(tmp_path, prepared_bundled):
    copy = tmp_path / "copy"
    shutil.copytree(prepared_bundled, copy)
    source = Dataset.open(copy).records("train")
    whole = [source[i].to_bytes() for i in range(len(source))]
    data = bytearray((copy / SHARD).read_bytes())
    data[len(data) // 4] ^= 1
    (copy / SHARD).write_bytes(data)
    source, errors = Dataset.open(copy).records("train"), []
    for i in range(len(source)):
        try:
            assert source[i].to_bytes() == whole[i]
        except InputError as error:
            errors.append(str(error))
    assert errors
    assert all(f"{SHARD}: damaged" in error for error in errors)
