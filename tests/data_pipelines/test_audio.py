import numpy as np
import pytest
import scipy.signal
import soundfile

from data_pipelines.audio import read_audio
from data_pipelines.corpora.bundled import FOLDER
from ellav_jax.errors import InputError
from ellav_jax.resampling import resample


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """3 s of a bundled clip at 16 kHz, decoded by libsndfile itself."""
    wave, rate = soundfile.read(FOLDER / "clips" / "agent-alreadyon.opus", dtype="float32")
    assert rate == 16000
    return wave[:48000]


LOSSLESS = {"speech.wav": {}, "speech.flac": {}, "float.wav": {"subtype": "FLOAT"}, "speech.aiff": {}}
LOSSY = {"speech.ogg": {}, "speech.opus": {"format": "OGG", "subtype": "OPUS"}, "speech.mp3": {}}


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


def _write(path, wave, rate=16000, **options):
    soundfile.write(path, wave, rate, **options)
    return path


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


BAD_FILES = {
    "missing": (lambda d, x: d / "a.wav", "no such file"),
    "a folder": (lambda d, x: d, "is a folder"),
    "0 bytes": (lambda d, x: _bytes(d / "a.wav", b""), "the file is empty"),
    "0 samples": (lambda d, x: _write(d / "a.wav", x[:0]), "holds no samples"),
    "text": (lambda d, x: _bytes(d / "a.wav", b"RIFF is what I am not\n" * 99), "not a recording that can be read"),
    "random bytes": (lambda d, x: _bytes(d / "a.mp3", bytes(range(256)) * 8), "not a recording that can be read"),
    "cut WAV": (lambda d, x: _cut(d / "a.wav", x, 0.6), "cut off: 96000 bytes of sound announced, 57"),
    "cut AIFF": (lambda d, x: _cut(d / "a.aiff", x, 0.6), "cut off"),
    "cut FLAC": (lambda d, x: _cut(d / "a.flac", x, 0.6), "flac decoder lost sync"),
    "cut MP3": (lambda d, x: _cut(d / "a.mp3", x, 0.6), "48000 samples announced"),
    "NaN": (lambda d, x: _write(d / "a.wav", _changed(x, np.nan), subtype="FLOAT"), "1 samples are NaN or infinite"),
    "infinite": (lambda d, x: _write(d / "a.wav", _changed(x, np.inf), subtype="FLOAT"), "1 samples are NaN"),
    "silent": (lambda d, x: _write(d / "a.wav", 1e-3 * x), "silent .peak .*needs at least 1e-03"),
    "20 minutes": (lambda d, x: _write(d / "a.wav", np.tile(x, 400), rate=16000), r"lasts 1200.0 s, the limit is 60 s"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files_give_one_clear_error_that_names_them(tmp_path, speech, kind):
    make, message = BAD_FILES[kind]
    path = make(tmp_path, speech)
    with pytest.raises(InputError, match=message) as caught:
        read_audio(path, max_seconds=60)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_damage_in_the_middle_of_an_opus_file_is_found(tmp_path, speech):
    data = bytearray(_write(tmp_path / "a.opus", speech, format="OGG", subtype="OPUS").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    (tmp_path / "a.opus").write_bytes(data)
    with pytest.raises(InputError, match=r"cut off or damaged: 48000 samples announced"):
        read_audio(tmp_path / "a.opus")


def test_a_streamed_wav_of_unknown_length_is_whole(tmp_path, speech):
    data = bytearray(_write(tmp_path / "a.wav", speech).read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    (tmp_path / "a.wav").write_bytes(data)
    wave, _ = read_audio(tmp_path / "a.wav")
    np.testing.assert_allclose(wave, speech, atol=2**-15)


def test_a_file_at_the_limit_of_length_is_read(tmp_path, speech):
    wave, _ = read_audio(_write(tmp_path / "a.wav", speech), max_seconds=3.0)
    assert wave.shape == (48000,)
