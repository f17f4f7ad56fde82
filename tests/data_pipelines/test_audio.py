import io

import numpy as np
import pytest
import scipy.signal
import soundfile

from data_pipelines.audio import decode_audio, read_audio
from data_pipelines.corpora.bundled import FOLDER
from ellav_jax.errors import UnusableError
from ellav_jax.resampling import resample


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """3 s of a bundled clip at 16 kHz, decoded by libsndfile itself."""
    wave, rate = soundfile.read(FOLDER / "clips" / "agent-alreadyon.opus", dtype="float32")
    assert rate == 16000
    return wave[:48000]


@pytest.fixture(scope="module")
def long_speech() -> np.ndarray:
    """60 s of bundled clips at 16 kHz, one behind the other."""
    clips = sorted((FOLDER / "clips").iterdir())[:20]
    wave = np.concatenate([soundfile.read(clip, dtype="float32")[0] for clip in clips])
    assert len(wave) > 60 * 16000
    return wave[: 60 * 16000]


OPUS = {"format": "OGG", "subtype": "OPUS"}
LOSSLESS = {
    "speech.wav": {},
    "24bit.wav": {"subtype": "PCM_24"},
    "speech.flac": {},
    "float.wav": {"subtype": "FLOAT"},
    "speech.aiff": {},
}
LOSSY = {"speech.ogg": {}, "speech.opus": OPUS, "speech.mp3": {}}


def _write(path, wave, rate=16000, **options):
    # libsndfile's Vorbis encoder overflows its stack when it is given a minute at once.
    with soundfile.SoundFile(path, "w", rate, wave.ndim, **options) as file:
        for start in range(0, len(wave), 16000):
            file.write(wave[start : start + 16000])
    return path


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_lossless_files_give_their_samples_and_rate(tmp_path, speech, name, rate):
    soundfile.write(tmp_path / name, speech, rate, **LOSSLESS[name])
    wave, found = read_audio(tmp_path / name)
    assert found == rate
    assert wave.dtype == np.float32
    np.testing.assert_allclose(wave, speech, atol=2**-15, rtol=0)


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_files_give_the_same_speech(tmp_path, speech, name):
    soundfile.write(tmp_path / name, speech, 16000, **LOSSY[name])
    wave, rate = read_audio(tmp_path / name)
    assert (rate, wave.shape) == (16000, speech.shape)
    assert np.corrcoef(wave, speech)[0, 1] > 0.99


def test_stereo_becomes_the_mean_of_the_channels(tmp_path, speech):
    stereo = np.stack([speech, 0.5 * speech[::-1]], axis=1)
    soundfile.write(tmp_path / "stereo.wav", stereo, 16000, subtype="FLOAT")
    wave, _ = read_audio(tmp_path / "stereo.wav")
    np.testing.assert_allclose(wave, (speech + 0.5 * speech[::-1]) / 2, atol=1e-7)


@pytest.mark.parametrize("name", ["speech.flac", "speech.opus"])
def test_a_file_in_memory_is_read_as_one_on_disk(tmp_path, speech, name):
    path = _write(tmp_path / name, speech, **LOSSY.get(name, {}))
    wave, rate = decode_audio(path.read_bytes(), "here")
    assert rate == 16000
    np.testing.assert_array_equal(wave, read_audio(path)[0])
    with pytest.raises(UnusableError, match=r"^here: cut off"):
        decode_audio(path.read_bytes()[:-200], "here")
    with pytest.raises(UnusableError, match=r"^here: the recording is empty"):
        decode_audio(b"", "here")


@pytest.mark.parametrize(("rate", "up", "down"), [(8000, 1, 2), (24000, 3, 2), (48000, 3, 1)])
def test_resampling_agrees_with_a_polyphase_filter_of_scipy(speech, rate, up, down):
    mine = resample(speech, 16000, rate)
    theirs = scipy.signal.resample_poly(speech, up, down)
    assert mine.shape == theirs.shape
    assert mine.dtype == np.float32
    # The two filters differ in the last few percent below the lower Nyquist frequency, where speech has little.
    band = scipy.signal.butter(8, 3500, fs=rate, output="sos")
    mine, theirs = (scipy.signal.sosfilt(band, wave)[500:-500] for wave in (mine, theirs))
    assert np.sum((mine - theirs) ** 2) < 1e-5 * np.sum(theirs**2)


# A part of a file


@pytest.mark.parametrize("name", LOSSLESS | LOSSY)
def test_a_part_is_the_same_samples_of_the_whole_file(tmp_path, long_speech, name):
    path = _write(tmp_path / name, long_speech, **(LOSSLESS | LOSSY)[name])
    whole, _ = read_audio(path)
    # MP3 rounds its sums in another order; Opus' decoder takes its time to forget where it began.
    tolerance = {"speech.mp3": 1e-6, "speech.opus": 5e-3}.get(name, 0)
    for start_s, duration_s in [(0, 2.5), (7.123, 3), (31.00005, 0.75), (57, 3), (58.5, None), (0, 60), (57.2, 2.8)]:
        part, _ = read_audio(path, None, start_s, duration_s)
        start = round(start_s * 16000)
        expected = whole[start:] if duration_s is None else whole[start : start + round(duration_s * 16000)]
        assert part.shape == expected.shape
        np.testing.assert_allclose(part, expected, atol=tolerance, rtol=0)


def test_only_the_part_is_decoded(tmp_path, long_speech):
    data = bytearray(_write(tmp_path / "a.flac", long_speech).read_bytes())
    data[len(data) // 4 : len(data) // 4 + 5000] = bytes(5000)
    (tmp_path / "a.flac").write_bytes(data)
    wave, _ = read_audio(tmp_path / "a.flac", None, 40.0, 2.0)
    np.testing.assert_allclose(wave, long_speech[40 * 16000 : 42 * 16000], atol=2**-15)
    with pytest.raises(UnusableError, match="damaged"):
        read_audio(tmp_path / "a.flac")


def test_the_limit_of_length_is_for_the_part(tmp_path, long_speech):
    path = _write(tmp_path / "a.wav", long_speech)
    assert len(read_audio(path, 5.0, 20.0, 5.0)[0]) == 80000
    with pytest.raises(UnusableError, match=r"lasts 6.0 s, expected at most 5 s") as caught:
        read_audio(path, 5.0, 20.0, 6.0)
    assert caught.value.fault == "audio-too-long"


@pytest.mark.parametrize(
    ("start_s", "duration_s", "fault", "message"),
    [
        (3.5, 1.0, "audio-truncated", "begins at 3.5 s was asked for, the file lasts 3.00 s"),
        (3.0, None, "audio-truncated", "begins at 3 s was asked for, the file lasts 3.00 s"),
        (-1.0, None, "audio-truncated", "begins at -1 s was asked for"),
        (float("nan"), 1.0, "audio-truncated", "begins at nan s"),
        (2.0, 1.02, "audio-truncated", "ends at 3.02 s was asked for, the file lasts 3.00 s"),
        (2.0, float("inf"), "audio-truncated", "ends at inf s"),
        (2.0, 0.0, "audio-too-short", "a part of 0 s was asked for"),
        (2.0, -1.0, "audio-too-short", "a part of -1 s was asked for"),
        (2.0, float("nan"), "audio-too-short", "a part of nan s was asked for"),
    ],
)
def test_a_part_that_is_not_in_the_file_is_refused(tmp_path, speech, start_s, duration_s, fault, message):
    path = _write(tmp_path / "a.flac", speech)
    with pytest.raises(UnusableError, match=message) as caught:
        read_audio(path, None, start_s, duration_s)
    assert caught.value.fault == fault


def test_an_end_rounded_to_a_hundredth_of_a_second_is_let_pass(tmp_path, speech):
    path = _write(tmp_path / "a.flac", speech[:47900])
    wave, _ = read_audio(path, None, 2.0, 1.0)
    np.testing.assert_allclose(wave, speech[32000:47900], atol=2**-15)


# Recordings that can't be used


def _cut(path, wave, keep, **options):
    data = _write(path, wave, **options).read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    return path


def _changed(wave, value):
    changed = wave.copy()
    changed[100] = value
    return changed


def _bytes(path, data):
    path.write_bytes(data)
    return path


def _damaged(path, wave, **options):
    data = bytearray(_write(path, wave, **options).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    return _bytes(path, data)


def _pages(data):
    """The beginnings of the pages of an Ogg file."""
    starts, start = [], 0
    while start < len(data):
        assert data[start : start + 4] == b"OggS"
        starts.append(start)
        segments = data[start + 26]
        start += 27 + segments + sum(data[start + 27 : start + 27 + segments])
    return starts


def _cut_at_page(path, wave, **options):
    data = _write(path, wave, **options).read_bytes()
    return _bytes(path, data[: _pages(data)[-1]])


def _without_xing(path, wave, keep=1.0):
    # 64 kbit/s at 16 kHz: each frame has 288 bytes; the first of them only counts the others.
    soundfile.write(path, wave, 16000, bitrate_mode="CONSTANT", compression_level=0.65)
    data = path.read_bytes()
    size = data.index(data[:2], 4)
    assert any(mark in data[:size] for mark in (b"Xing", b"Info"))
    return _bytes(path, data[size:][: int(keep * (len(data) - size))])


BAD_FILES = {
    "missing": (lambda d, x: d / "a.wav", "audio-missing", "no such file"),
    "a folder": (lambda d, x: d, "audio-missing", "is a folder"),
    "0 bytes": (lambda d, x: _bytes(d / "a.wav", b""), "audio-unreadable", "the file is empty"),
    "0 samples": (lambda d, x: _write(d / "a.wav", x[:0]), "audio-unreadable", "holds no samples"),
    "text": (
        lambda d, x: _bytes(d / "a.wav", b"RIFF is what I am not\n" * 99),
        "audio-unreadable",
        "not a recording that can be read",
    ),
    "random bytes": (
        lambda d, x: _bytes(d / "a.mp3", bytes(range(256)) * 8),
        "audio-unreadable",
        "not a recording that can be read",
    ),
    "damaged FLAC": (lambda d, x: _damaged(d / "a.flac", x), "audio-unreadable", "damaged: 48000 samples announced"),
    "damaged Ogg": (lambda d, x: _damaged(d / "a.ogg", x), "audio-unreadable", "damaged: the Ogg page at byte"),
    "damaged Opus": (lambda d, x: _damaged(d / "a.opus", x, **OPUS), "audio-unreadable", "damaged: the Ogg page"),
    "cut WAV": (lambda d, x: _cut(d / "a.wav", x, 0.6), "audio-truncated", "96000 bytes of sound announced, 57"),
    "cut 24-bit WAV": (lambda d, x: _cut(d / "a.wav", x, 0.99, subtype="PCM_24"), "audio-truncated", "cut off"),
    "cut float WAV": (lambda d, x: _cut(d / "a.wav", x, 0.99, subtype="FLOAT"), "audio-truncated", "cut off"),
    "cut AIFF": (lambda d, x: _cut(d / "a.aiff", x, 0.6), "audio-truncated", "cut off"),
    "cut FLAC": (lambda d, x: _cut(d / "a.flac", x, 0.6), "audio-truncated", "cut off: 48000 samples announced"),
    "FLAC without its end": (lambda d, x: _cut(d / "a.flac", x, 0.995), "audio-truncated", "cut off: 48000 samples"),
    "cut MP3": (lambda d, x: _cut(d / "a.mp3", x, 0.6), "audio-truncated", "cut off: 48000 samples announced"),
    "cut MP3, frames not counted": (
        lambda d, x: _without_xing(d / "a.mp3", x, 0.6),
        "audio-truncated",
        "last MP3 frame",
    ),
    "cut Ogg": (lambda d, x: _cut(d / "a.ogg", x, 0.8), "audio-truncated", "last Ogg page is not whole"),
    "Ogg without its last page": (lambda d, x: _cut_at_page(d / "a.ogg", x), "audio-truncated", "end of the stream"),
    "cut Opus": (lambda d, x: _cut(d / "a.opus", x, 0.999, **OPUS), "audio-truncated", "last Ogg page is not whole"),
    "Opus without its last page": (
        lambda d, x: _cut_at_page(d / "a.opus", x, **OPUS),
        "audio-truncated",
        "not marked as the end of the stream",
    ),
    "NaN": (lambda d, x: _write(d / "a.wav", _changed(x, np.nan), subtype="FLOAT"), "audio-nan", "1 samples are NaN"),
    "infinite": (lambda d, x: _write(d / "a.wav", _changed(x, np.inf), subtype="FLOAT"), "audio-nan", "1 samples are"),
    "integers as floats": (
        lambda d, x: _write(d / "a.wav", x * 32768, subtype="FLOAT"),
        "audio-unreadable",
        "expected -1 to 1 in a float file",
    ),
    "silent": (lambda d, x: _write(d / "a.wav", 1e-3 * x), "audio-silent", "silent .peak .*needs at least 1e-03"),
    "overdriven": (lambda d, x: _write(d / "a.wav", np.clip(4 * x, -1, 1)), "audio-clipped", "stand at its limits"),
    "overdriven MP3": (lambda d, x: _write(d / "a.mp3", np.clip(4 * x, -1, 1)), "audio-clipped", "stand at its limits"),
    "20 minutes": (
        lambda d, x: _write(d / "a.wav", np.tile(x, 400)),
        "audio-too-long",
        r"lasts 1200.0 s, expected at most 60 s",
    ),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files_give_one_clear_error_that_names_them(tmp_path, speech, kind):
    make, fault, message = BAD_FILES[kind]
    path = make(tmp_path, speech)
    with pytest.raises(UnusableError, match=message) as caught:
        read_audio(path, max_seconds=60)
    assert caught.value.fault == fault
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.ogg", "a.opus"])
def test_an_ogg_file_with_something_behind_its_last_page_is_whole(tmp_path, speech, name):
    path = _write(tmp_path / name, speech, **(OPUS if name == "a.opus" else {}))
    expected, _ = read_audio(path)
    _bytes(path, path.read_bytes() + b"TAG" + bytes(125))
    np.testing.assert_array_equal(read_audio(path)[0], expected)


def test_an_mp3_that_does_not_count_its_frames_is_read_whole(tmp_path, speech):
    wave, _ = read_audio(_without_xing(tmp_path / "a.mp3", speech))
    # Without the header the encoder's delay isn't known, so it stays.
    shift = int(np.argmax(scipy.signal.correlate(wave, speech, "valid")))
    assert 0 < shift < 2400
    assert np.corrcoef(wave[shift : shift + len(speech)], speech)[0, 1] > 0.99


def test_an_mp3_of_variable_bit_rate_whose_length_is_not_known_is_refused(tmp_path, long_speech):
    path = tmp_path / "a.mp3"
    soundfile.write(path, long_speech[:160000], 16000, bitrate_mode="VARIABLE")
    data = path.read_bytes()
    _bytes(path, data[data.index(data[:2], 4) :])
    with soundfile.SoundFile(path) as file:
        assert file.frames < 150000  # libsndfile would leave the rest out without a word
    with pytest.raises(UnusableError, match="without a header that counts its frames") as caught:
        read_audio(path)
    assert caught.value.fault == "audio-unreadable"


def test_a_flac_stream_that_does_not_tell_its_length_is_refused(tmp_path, speech):
    data = bytearray(_write(tmp_path / "a.flac", speech).read_bytes())
    # The last 36 bits ahead of the MD5 sum are the number of samples; 0 means that it isn't known.
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    with pytest.raises(UnusableError, match="doesn't tell its length") as caught:
        read_audio(_bytes(tmp_path / "a.flac", data), max_seconds=10)
    assert caught.value.fault == "audio-unreadable"


def test_a_header_that_claims_a_huge_length_takes_no_memory(tmp_path, speech):
    data = bytearray(_write(tmp_path / "a.flac", speech).read_bytes())
    data[21] |= 0x0F
    data[22:26] = b"\xff" * 4
    with pytest.raises(UnusableError, match="68719476735 samples announced"):
        read_audio(_bytes(tmp_path / "a.flac", data))


def test_a_streamed_wav_of_unknown_length_is_whole(tmp_path, speech):
    data = bytearray(_write(tmp_path / "a.wav", speech).read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    wave, _ = read_audio(_bytes(tmp_path / "a.wav", data))
    np.testing.assert_allclose(wave, speech, atol=2**-15)


def test_a_file_at_the_limit_of_length_is_read(tmp_path, speech):
    wave, _ = read_audio(_write(tmp_path / "a.wav", speech), max_seconds=3.0)
    assert wave.shape == (48000,)


def test_no_bundled_clip_is_overdriven_and_each_is_after_12_db_more():
    for clip in sorted((FOLDER / "clips").iterdir())[::4]:
        wave, _ = read_audio(clip)
        file = io.BytesIO()
        soundfile.write(file, np.clip(4 * wave / np.abs(wave).max(), -1, 1), 16000, format="WAV")
        with pytest.raises(UnusableError, match="overdriven"):
            decode_audio(file.getvalue(), clip.name)


def test_a_few_clipped_peaks_are_let_pass(tmp_path, speech):
    peaks = np.sort(np.abs(speech))
    wave = np.clip(speech / peaks[int(0.997 * len(peaks))], -1, 1)
    assert np.count_nonzero(np.abs(wave) == 1) > 100
    read_audio(_write(tmp_path / "a.wav", wave))


def test_one_overdriven_channel_of_two_is_found(tmp_path, speech):
    stereo = np.stack([speech, np.clip(6 * speech, -1, 1)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 16000)
    with pytest.raises(UnusableError, match="overdriven"):
        read_audio(tmp_path / "a.wav")


def test_overshoots_of_a_lossy_format_are_cut_to_full_scale(tmp_path, speech):
    # Peaks of the encoder's input stand at full scale, so its output passes it.
    path = _write(tmp_path / "a.mp3", np.clip(1.2 * speech / np.abs(speech).max(), -1, 1))
    assert np.abs(soundfile.read(path)[0]).max() > 1
    assert np.abs(read_audio(path)[0]).max() == 1


def test_samples_without_a_header_are_refused(tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(32000))
    with pytest.raises(UnusableError, match=r"a\.raw: no recording with a header") as caught:
        read_audio(tmp_path / "a.raw")
    assert caught.value.fault == "audio-unreadable"
