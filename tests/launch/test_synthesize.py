"""`ellav synthesize` with models that the command line trained for two steps, on a held-out recording."""

import json
import shutil

import numpy as np
import pytest
import soundfile

from ellav_jax.frontend.alignment import Aligner
from ellav_jax.frontend.analyzer import TextAnalyzer
from ellav_jax.frontend.frontend import Frontend, default_frontend
from ellav_jax.frontend.textgrid_file import read_textgrid
from launch import cli
from tests.textgrid_writer import long_textgrid


@pytest.fixture(scope="module")
def prompt(small_corpus, tmp_path_factory):
    """A held-out clip as a user has it: a WAV file and its text."""
    one = next(u for u in small_corpus.utterances if u.split == "test")
    path = tmp_path_factory.mktemp("prompt") / "prompt.wav"
    soundfile.write(path, *soundfile.read(one.audio.path))
    return path, one.text


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def arguments(trained, prompt, tmp_path, cache, monkeypatch):
    """`arguments(text="…")` of `ellav synthesize`, with one or the other replaced, or left out where it is None."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))

    def make(**replaced):
        path, text = prompt
        values = {"gar": trained("gar"), "nar": trained("nar"), "prompt": path, "prompt_text": text}
        values |= {"text": "Press one.", "out": tmp_path / "out.wav"} | replaced
        given = [(_option(name), str(value)) for name, value in values.items() if value is not None]
        return ["synthesize", *(part for pair in given for part in pair)]

    return make


def _option(name):
    return "--" + name.replace("_", "-")


@pytest.fixture
def refused(arguments, capsys, tmp_path):
    """`refused(text="")`: status 2, one line, no file; → the line."""

    def run(**replaced):
        line = arguments(**replaced)
        capsys.readouterr()
        assert cli.main(line) == 2
        error = capsys.readouterr().err
        assert error.startswith("ellav: error: ")
        assert error.count("\n") == 1
        assert not (tmp_path / "out.wav").exists()
        return error

    return run


def test_a_sentence_is_spoken_into_a_file(arguments, tmp_path, capsys):
    line = arguments()
    capsys.readouterr()
    assert cli.main([*line, "--max-phone-seconds", "0.1", "--seed", "3"]) == 0
    waveform, rate = soundfile.read(tmp_path / "out.wav")
    info = soundfile.info(tmp_path / "out.wav")
    assert (rate, info.channels, info.subtype) == (24_000, 1, "PCM_16")
    assert len(waveform) % 320 == 0
    assert np.abs(waveform).max() > 0
    out = capsys.readouterr().out
    assert f"{tmp_path / 'out.wav'}: {len(waveform) / 24_000:.2f} s, " in out
    phones, calls = (int(out.split(f" {what}")[0].split()[-1]) for what in ("phones", "GAR calls"))
    assert calls == len(waveform) // 320 + phones


def test_a_control_file_is_kept_to_and_the_timings_come_back(arguments, tmp_path, capsys, cache):
    control = {
        "pronunciations": [{"word": "one", "phones": "W AO N"}],
        "pauses": [{"after": "press", "seconds": 0.2}],
        "durations": [{"every": "AO", "frames": 12}, {"word": "press", "max_frames": 3}],
    }
    (tmp_path / "c.json").write_text(json.dumps(control))
    line = [*arguments(control=tmp_path / "c.json", textgrid=tmp_path / "out.TextGrid"), "--max-phone-seconds", "0.1"]
    assert cli.main([*line, "--list-phones"]) == 0
    table = capsys.readouterr().out.splitlines()[1:]
    assert not (tmp_path / "out.wav").exists()
    assert cli.main(line) == 0
    grid = read_textgrid(tmp_path / "out.TextGrid")
    words, phones = grid.tiers
    assert [row.split()[1] for row in table] == [one.label for one in phones.intervals]
    assert "12 frames (0.160 s)" in next(row for row in table if " AO " in row)
    frames = {}
    for one in phones.intervals:
        frames.setdefault(one.label, []).append(round((one.end_s - one.start_s) * 75, 3))
    assert frames["AO"] == [12]
    assert frames["SIL"][0] == 15
    assert all(frames[phone][0] <= 3 for phone in ("P", "R", "EH", "S"))
    assert [one.label for one in words.intervals if one.label] == ["press", "one"]
    assert grid.end_s == pytest.approx(soundfile.info(tmp_path / "out.wav").duration)
    assert len(list(cache.glob("ellav_jax/prompts/*.safetensors"))) == 1


@pytest.mark.slow
def test_a_recording_is_edited(arguments, small_corpus, tmp_path):
    one = min((u for u in small_corpus.utterances if len(u.text.split()) >= 3), key=lambda u: len(u.text))
    words = one.text.split()
    text = " ".join([*words[:1], "banana", *words[2:]])
    line = arguments(prompt=one.audio.path, prompt_text=one.text, text=text, textgrid=tmp_path / "e.TextGrid")
    assert cli.main([*line, "--edit", "--max-phone-seconds", "0.1"]) == 0
    spoken = [part.label for part in read_textgrid(tmp_path / "e.TextGrid").tiers[0].intervals if part.label]
    assert spoken[1] == "banana"
    assert len(spoken) == len(words)


@pytest.mark.slow
def test_a_text_file_is_spoken_sentence_by_sentence(arguments, tmp_path, capsys):
    (tmp_path / "t.txt").write_text("Press one. Mr. Smith is here!\n\nGoodbye.")
    line = arguments(text=None, text_file=tmp_path / "t.txt", textgrid=tmp_path / "t.TextGrid", stream=tmp_path / "s")
    assert cli.main([*line, "--max-phone-seconds", "0.1", "--batch-size", "2", "--sentence-pause", "0.25"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [row.split("  ")[0::2] for row in out[-4:-1]] == [
        ["1/3", "Press one."], ["2/3", "Mr. Smith is here!"], ["3/3", "Goodbye."],
    ]  # fmt: skip
    parts = [soundfile.read(tmp_path / "s" / f"{number:04}.wav")[0] for number in (1, 2, 3)]
    whole, rate = soundfile.read(tmp_path / "out.wav")
    pause = np.zeros(rate // 4)
    np.testing.assert_array_equal(whole, np.concatenate([parts[0], pause, parts[1], pause, parts[2]]))
    assert read_textgrid(tmp_path / "t.TextGrid").end_s == pytest.approx(len(whole) / rate)


def test_a_bad_control_file_is_refused_before_the_prompt_is_looked_at(refused, tmp_path):
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"durations": [{"word": "press", "frames": 0}]}))
    assert f"{path}: durations[0]: frames: 0 frames; expected 1 to" in refused(control=path)


def test_options_that_do_not_go_together_are_refused(arguments, refused, capsys, tmp_path):
    assert "expected one of --text TEXT, --text-file FILE" in refused(text=None)
    assert "expected --out WAV" in refused(out=None)
    assert "--sentence-pause" in refused(sentence_pause=-1)
    assert "--batch-size 0" in refused(batch_size=0)
    (tmp_path / "old.wav").write_text("")
    assert "holds WAV files already" in refused(stream=tmp_path)
    assert "--textgrid" in refused(textgrid=tmp_path / "nowhere" / "a.TextGrid")
    capsys.readouterr()
    assert cli.main([*arguments(), "--edit", "--speed", "2"]) == 2
    assert "--edit goes without --speed" in capsys.readouterr().err


@pytest.mark.slow
def test_the_prompts_alignment_may_come_from_a_textgrid(arguments, prompt, tmp_path, capsys):
    path, text = prompt
    frontend = default_frontend()
    waveform, rate = soundfile.read(path, dtype="float32")
    parts = [(one.phone, one.start_s, one.end_s) for one in _align(frontend, waveform, rate, text)]
    (tmp_path / "prompt.TextGrid").write_text(long_textgrid({"phones": parts}, len(waveform) / rate))
    ours = [*arguments(out=tmp_path / "ours.wav"), "--max-phone-seconds", "0.1"]
    assert cli.main(ours) == 0
    at = ours.index("--prompt-text")
    with_textgrid = [*ours[:at], "--prompt-textgrid", str(tmp_path / "prompt.TextGrid"), *ours[at + 2 :]]
    assert cli.main([*with_textgrid, "--out", str(tmp_path / "theirs.wav")]) == 0
    assert (tmp_path / "ours.wav").read_bytes() == (tmp_path / "theirs.wav").read_bytes()
    capsys.readouterr()
    for neither_or_both in ([*ours[:at], *ours[at + 2 :]], [*ours, "--prompt-textgrid", "a.TextGrid"]):
        assert cli.main(neither_or_both) == 2
        assert "expected either --prompt-text TEXT" in capsys.readouterr().err


def _align(frontend, waveform, rate, text):
    return Aligner(frontend, TextAnalyzer(frontend)).align(waveform, rate, text)


def test_a_prompt_below_half_a_second_is_refused(refused, prompt, tmp_path):
    waveform, rate = soundfile.read(prompt[0])
    soundfile.write(tmp_path / "short.wav", waveform[: int(0.4 * rate)], rate)
    assert "the prompt lasts 0.40 s, expected at least 0.5 s" in refused(prompt=tmp_path / "short.wav")


@pytest.mark.parametrize("text", ["", "…!", "🙂🎉"])
def test_a_text_without_words_is_refused(refused, text):
    assert "words" in refused(text=text)


def test_what_is_not_there_is_refused(refused, tmp_path):
    assert "nowhere.wav" in refused(prompt=tmp_path / "nowhere.wav")
    assert "no such directory" in refused(gar=tmp_path / "nowhere")
    assert "neither a work directory" in refused(nar=tmp_path)
    assert "no such folder" in refused(out=tmp_path / "nowhere" / "out.wav")


def test_models_in_each_others_place_are_refused(refused, trained):
    assert "holds a GAR, expected a NAR (--nar)" in refused(nar=trained("gar"))
    assert "holds a NAR, expected a GAR (--gar)" in refused(gar=trained("nar"))


def _rewrite_card(workdir, tmp_path, change):
    """A copy of a work directory whose checkpoint carries another card."""
    copy = shutil.copytree(workdir, tmp_path / "copy")
    for path in (copy / "checkpoints").glob("*/_CHECKPOINT_METADATA"):
        metadata = json.loads(path.read_text())
        change(metadata["custom_metadata"])
        path.write_text(json.dumps(metadata))
    return copy


def test_models_of_another_codec_are_refused(refused, trained, tmp_path):
    other = _rewrite_card(trained("nar"), tmp_path, lambda card: card["codec"].update(sha256="ab" * 32))
    error = refused(nar=other)
    assert "knows the codes of codec bundled (sha256 abababababab" in error
    assert "--codec" in error


def test_models_of_two_frontends_are_refused_with_the_fields_that_differ(refused, trained, tmp_path):
    other = _rewrite_card(trained("nar"), tmp_path, lambda card: card["frontend"].update(silence_min_seconds=0.3))
    assert "another frontend: silence_min_seconds is 0.3, expected 0.1" in refused(nar=other)
    assert Frontend.from_json(trained("gar") / "frontend.json").silence_min_seconds == 0.1


def test_models_of_two_local_advances_are_refused(refused, trained, tmp_path):
    other = _rewrite_card(trained("nar"), tmp_path, lambda card: card["experiment"]["layout"].update(local_advance=2))
    assert "local advance of 0 frames" in refused(nar=other)


def test_limits_that_leave_phones_out_are_refused(arguments, capsys):
    try:
        status = cli.main([*arguments(), "--min-frames", "0"])
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert "min_frames must be 1 or more" in " ".join(capsys.readouterr().err.replace("│", " ").split())
