import copy
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_pipelines.corpora import CorpusOptions, open_corpus
from ellav_jax.errors import InputError


@pytest.fixture
def write(tmp_path):
    """Writes a manifest of objects, or of bytes as they are, a line each, and lists it."""

    def run(*lines, name="train.jsonl", **options):
        path = tmp_path / name
        data = b"".join((one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in lines)
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return list(open_corpus(f"manifest:{path}", CorpusOptions(**options)).utterances)

    return run


def test_the_fields_of_a_line_are_read(write, put, tmp_path, clips):
    put(tmp_path / "audio/a.flac", 0)
    (one,) = write(
        {"audio": "audio/a.flac", "text": " Hello\nthere ", "speaker": "anna", "id": "x/1", "split": "test-other"}
    )
    assert (one.id, one.text, one.speaker, one.split, one.fault) == ("x/1", "Hello there", "anna", "test-other", None)
    np.testing.assert_allclose(one.audio.read()[0], clips[0] / 32768, atol=1e-7)


@pytest.mark.parametrize("key", ["audio", "audio_filepath", "path"])
@pytest.mark.parametrize("name", ["m.jsonl", "m.jsonl.gz"])
def test_a_part_of_a_recording_is_read(write, put, tmp_path, clips, key, name):
    put(tmp_path / "a.wav", 2)
    lines = [{key: "a.wav", "offset": offset, "duration": 0.5, "text": "hello"} for offset in (0, 0.25, 1.125)]
    found = write(*lines, name=name)
    assert [one.id for one in found] == ["a", "a@0.25", "a@1.125"]
    assert {one.speaker for one in found} == {"unknown"}
    for one, start in zip(found, (0, 4000, 18000), strict=True):
        np.testing.assert_allclose(one.audio.read()[0], clips[2][start : start + 8000] / 32768, atol=1e-7)


def test_paths_are_relative_to_the_manifest_or_to_the_folder_given(write, put, tmp_path):
    put(tmp_path / "far/a.wav", 0)
    line = {"audio": "a.wav", "text": "hello"}
    assert write(line)[0].audio.path == tmp_path / "a.wav"
    assert write(line, audio_root=tmp_path / "far")[0].audio.path == tmp_path / "far" / "a.wav"
    assert write({"audio": "/abs/a.wav", "text": "hello"})[0].audio.path == Path("/abs/a.wav")
    with pytest.raises(InputError, match="no such folder; expected the one that the manifest's paths are relative to"):
        write(line, audio_root=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("line", "expected_id", "kind", "detail"),
    [
        (b"not JSON", "m.jsonl:2", "audio-missing", "line 2 is not JSON"),
        (b'["a.wav"]', "m.jsonl:2", "audio-missing", "line 2 is no JSON object"),
        (b'{"audio": "\xe9.wav"}', "m.jsonl:2", "text-encoding", "line 2 is not UTF-8"),
        (b'{"a":' * 5000, "m.jsonl:2", "audio-missing", "line 2 is not JSON"),
        ({"text": "hello"}, "m.jsonl:2", "audio-missing", "line 2 names no recording"),
        ({"audio": "", "text": "hello"}, "m.jsonl:2", "audio-missing", "names no recording"),
        ({"audio": 7, "text": "hello"}, "m.jsonl:2", "audio-missing", "names no recording"),
        ({"audio": "a.wav"}, "a", "text-missing", "the text is null"),
        ({"audio": "a.wav", "text": 5}, "a", "text-missing", "the text is 5"),
        ({"audio": "a.wav", "text": "  "}, "a", "text-empty", "line 2: the transcript is empty"),
        ({"audio": "a.wav", "text": "\ud800"}, "a", "text-encoding", "holds what is no character"),
        ({"audio": "a.wav", "text": "a", "offset": "1"}, "a", "audio-unreadable", "offset is '1', expected seconds"),
        ({"audio": "a.wav", "text": "a", "duration": True}, "a", "audio-unreadable", "duration is True"),
        ({"audio": "a.wav", "text": "a", "duration": 10**400}, "a", "audio-unreadable", "duration is 1000"),
    ],
)
def test_a_line_that_cannot_be_used_is_yielded_with_its_fault_and_the_others_go_on(
    write, line, expected_id, kind, detail
):
    good = {"audio": "good.wav", "text": "hello"}
    found = write(good, line, {**good, "id": "last"}, name="m.jsonl")
    assert [one.id for one in found] == ["good", expected_id, "last"]
    assert (found[0].fault, found[2].fault) == (None, None)
    assert found[1].fault.kind == kind
    assert detail in found[1].fault.detail
    # What prepare writes about it must be UTF-8.
    json.dumps(
        [found[1].id, found[1].text, found[1].audio.to_json(), found[1].fault.detail], ensure_ascii=False
    ).encode()


def test_blank_lines_and_a_byte_order_mark_are_no_utterances(write):
    assert [one.id for one in write(b'\xef\xbb\xbf{"audio": "a.wav", "text": "a"}\r', b"", b"  \r")] == ["a"]


def test_a_manifest_is_read_line_by_line(write, tmp_path):
    write({"audio": "a.wav", "text": "a"})
    utterances = iter(open_corpus(f"manifest:{tmp_path / 'train.jsonl'}").utterances)
    next(utterances)
    with open(tmp_path / "train.jsonl", "a") as file:
        file.write('{"audio": "late.wav", "text": "b"}\n')
    assert next(utterances).id == "late"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a.wav|hello\n", "its first line, 1, is not JSON"),
        (b"\n\n[1]\n", "its first line, 3, is no JSON object"),
        (b'{"id": "a", "sources": []}\n', r"its first line, 1, has only the keys 'id', 'sources'"),
        (b"", "its first line, 1, is not JSON"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path, data, message):
    (tmp_path / "m.jsonl").write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        open_corpus(f"manifest:{tmp_path / 'm.jsonl'}")
    assert "expected a line of JSON for each utterance" in str(caught.value)


@pytest.mark.parametrize("cut", ["half", "not gzip"])
def test_a_damaged_gzip_file_is_an_error_and_not_a_short_corpus(tmp_path, cut):
    lines = "".join(json.dumps({"audio": f"{i * i}.wav", "text": f"number {i}"}) + "\n" for i in range(20000))
    data = gzip.compress(lines.encode())
    (tmp_path / "m.jsonl.gz").write_bytes(data[: len(data) // 2] if cut == "half" else lines.encode())
    with pytest.raises(InputError, match="cut off, damaged or no gzip file"):
        list(open_corpus(f"manifest:{tmp_path / 'm.jsonl.gz'}").utterances)


# Lhotse's cuts

CUT = {
    "id": "small/100/fairies_0",
    "start": 1.25,
    "duration": 0.75,
    "channel": 0,
    "supervisions": [
        {
            "id": "small/100/fairies_0",
            "recording_id": "small/100/fairies",
            "start": 0,
            "duration": 0.75,
            "channel": 0,
            "language": "English",
            "speaker": "100",
            "custom": {"texts": ["The little girl.", "THE LITTLE GIRL"], "begin_byte": 4993, "end_byte": 5120},
        }
    ],
    "recording": {
        "id": "small/100/fairies",
        "sources": [{"type": "file", "channels": [0], "source": "download/small/100/fairies.flac"}],
        "sampling_rate": 16000,
        "num_samples": 48000,
        "duration": 3.0,
        "channel_ids": [0],
    },
    "custom": {"text_path": "download/text/fairies.txt"},
    "type": "MonoCut",
}
"""Built as a line of LibriHeavy's manifests is."""


def _cut(**changes):
    cut = copy.deepcopy(CUT)
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = cut
        for name in parents:
            target = target[int(name) if name.isdecimal() else name]
        target[int(last) if last.isdecimal() else last] = value
    return cut


def test_a_cut_of_libriheavy_is_read(write, put, tmp_path, clips):
    put(tmp_path / "download/small/100/fairies.flac", 2)
    (one,) = write(CUT, name="cuts.jsonl.gz")
    assert (one.id, one.text, one.speaker, one.fault) == ("small/100/fairies_0", "The little girl.", "100", None)
    np.testing.assert_allclose(one.audio.read()[0], clips[2][20000:32000] / 32768, atol=1e-7)


def test_the_text_of_a_supervision_goes_before_custom_texts(write):
    (one,) = write(_cut(supervisions__0__text="Its own."))
    assert one.text == "Its own."


def test_each_supervision_of_a_cut_is_an_utterance_with_its_own_time(write, put, tmp_path, clips):
    put(tmp_path / "a.wav", 2)
    pieces = [("s1", 0.0, 0.5), ("s2", 0.5, 1.0), ("s3", -0.25, 0.5)]
    supervisions = [
        {"id": name, "start": start, "duration": length, "text": f"Text of {name}.", "speaker": f"of {name}"}
        for name, start, length in pieces
    ]
    found = write(_cut(supervisions=supervisions, recording__sources__0__source="a.wav"))
    assert [(one.id, one.text, one.speaker) for one in found] == [(n, f"Text of {n}.", f"of {n}") for n, _, _ in pieces]
    for one, (_, start, length) in zip(found, pieces, strict=True):
        first = int((1.25 + start) * 16000)
        expected = clips[2][first : first + int(length * 16000)] / 32768
        np.testing.assert_allclose(one.audio.read()[0], expected, atol=1e-7)


def test_a_start_that_rounding_put_ahead_of_the_file_is_its_beginning(write):
    (one,) = write(_cut(start=0.0, supervisions__0__start=-0.0001))
    assert one.audio.start_s == 0


@pytest.mark.parametrize(
    ("changes", "kind", "detail"),
    [
        ({"type": "MixedCut"}, "audio-unreadable", "a MixedCut; expected a MonoCut"),
        ({"type": "MultiCut", "channel": [0, 1]}, "audio-unreadable", "a MultiCut"),
        ({"channel": 1}, "audio-unreadable", "several channels"),
        ({"recording__sources__0__channels": [0, 1]}, "audio-unreadable", "several channels"),
        (
            {"recording__sources__0__type": "command"},
            "audio-unreadable",
            "of type command; expected one, of type file",
        ),
        ({"recording__sources": []}, "audio-missing", "holds no recording"),
        ({"recording": None}, "audio-missing", "holds no recording"),
        ({"recording__transforms": [{"name": "Speed", "kwargs": {"factor": 0.9}}]}, "audio-unreadable", "transforms"),
        ({"supervisions": []}, "text-missing", "no supervision"),
        ({"supervisions": ["x"]}, "text-missing", "no list of objects"),
        ({"supervisions__0__custom": None}, "text-missing", "the text is null"),
        ({"supervisions__0__custom__texts": []}, "text-missing", "the text is null"),
        ({"start": "1"}, "audio-unreadable", "no numbers"),
        ({"supervisions__0__duration": None}, "audio-unreadable", "no numbers"),
    ],
)
def test_a_cut_that_is_no_part_of_one_file_is_yielded_with_its_fault(write, changes, kind, detail):
    found = write(CUT, _cut(id="bad", **changes), name="cuts.jsonl")
    assert [one.id for one in found] == ["small/100/fairies_0", "bad"]
    assert (found[0].fault, found[1].fault.kind) == (None, kind)
    assert "cuts.jsonl:2" in found[1].fault.detail
    assert detail in found[1].fault.detail


def test_parts_of_a_long_recording_are_read_from_where_they_are(write, tmp_path, clips):
    """As LibriLight's hours: what is ahead of the part isn't decoded, so damage there does no harm."""
    long = np.concatenate([clips[index % 8] for index in range(40)])
    path = tmp_path / "long.flac"
    soundfile.write(path, long, 16000)
    data = bytearray(path.read_bytes())
    data[len(data) // 10 : len(data) // 10 + 3000] = bytes(3000)
    path.write_bytes(data)
    half = len(long) / 32000
    (one,) = write({"audio": "long.flac", "offset": half, "duration": 1.5, "text": "a"})
    start = round(half * 16000)
    np.testing.assert_allclose(one.audio.read()[0], long[start : start + 24000] / 32768, atol=1e-7)
