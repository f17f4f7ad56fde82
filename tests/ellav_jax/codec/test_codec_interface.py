"""Both backends have one interface and refuse the same inputs."""

import subprocess
import sys

import numpy as np
import pytest

from ellav_jax.codec import load_codec, package_backend
from ellav_jax.errors import InputError


@pytest.fixture(params=["jax", "package"])
def codec(request, bundled_codec, bundled_package):
    return bundled_codec if request.param == "jax" else bundled_package


def test_both_backends_say_what_they_are(codec, bundled_codec):
    assert (codec.sample_rate, codec.hop, codec.frame_rate) == (24_000, 320, 75)
    assert (codec.num_codebooks, codec.codebook_size) == (8, 1024)
    assert codec.sha256 == bundled_codec.sha256


def test_both_backends_return_int32_codes_and_float32_waveforms(codec):
    wave = np.random.default_rng(0).normal(0, 0.1, 1000)
    codes = codec.encode(wave)
    assert (codes.dtype, codes.shape) == (np.int32, (4, 8))
    np.testing.assert_array_equal(codec.encode_batch([wave])[0], codes)
    decoded = codec.decode(codes.astype(np.uint16))
    assert (decoded.dtype, decoded.shape) == (np.float32, (1280,))
    np.testing.assert_array_equal(codec.decode_batch([codes])[0], decoded)


@pytest.mark.parametrize(
    ("wave", "message"),
    [
        (np.zeros(0, np.float32), "empty"),
        (np.array([0.1, np.nan], np.float32), "sample 1 is nan"),
        (np.array([np.inf, 0.0], np.float32), "sample 0 is inf"),
        (np.zeros(100, np.int16), "int16"),
        (np.zeros((2, 100), np.float32), r"\[2, 100\]"),
    ],
)
def test_waveforms_that_are_no_mono_audio_are_refused(codec, wave, message):
    with pytest.raises(InputError, match=message):
        codec.encode(wave)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((0, 8), np.int32), r"\[0, 8\]"),
        (np.zeros((5, 4), np.int32), r"\[5, 4\]"),
        (np.zeros((5, 8), np.float32), "float32"),
        (np.full((5, 8), 1024), "1024"),
        (np.full((5, 8), -1), "-1"),
    ],
)
def test_codes_out_of_shape_or_range_are_refused(codec, codes, message):
    with pytest.raises(InputError, match=message):
        codec.decode(codes)


def test_load_codec_names_the_backend():
    codec = load_codec("encodec:bundled")
    assert isinstance(codec, package_backend.PackageCodec)
    assert codec.name == "encodec:bundled"


def test_official_weights_that_cannot_be_fetched_are_one_clear_error(monkeypatch, tmp_path):
    import torch

    def download(url, *arguments, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(InputError, match=r"no route to host.*encodec:bundled"):
        load_codec("encodec")


def test_a_missing_package_names_the_extra(monkeypatch):
    find_spec = package_backend.importlib.util.find_spec
    monkeypatch.setattr(
        package_backend.importlib.util, "find_spec", lambda name: None if name == "encodec" else find_spec(name)
    )
    with pytest.raises(InputError, match=r"pip install 'ellav-jax\[torch\]'"):
        package_backend.import_encodec()


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_importing_and_loading_the_codec_needs_no_optional_package():
    out = run_python(
        "import sys, ellav_jax.codec; print('jax' in sys.modules); ellav_jax.codec.load_codec('bundled');"
        "print([name for name in ('torch', 'encodec', 'transformers', 'huggingface_hub') if name in sys.modules])"
    )
    assert out.split("\n")[:2] == ["False", "[]"]


def test_importing_encodec_leaves_no_stand_in_for_torchaudio():
    out = run_python(
        "import sys; sys.modules['torchaudio'] = None\n"  # None: importing it raises ImportError
        "from ellav_jax.codec.package_backend import import_encodec\n"
        "print(import_encodec().__name__, sys.modules.get('torchaudio'))"
    )
    assert out.strip() == "encodec None"
