"""What tests of several floors share: the bundled codec, and a data set of a few bundled clips made once."""

import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import pytest
from hypothesis import HealthCheck, settings

from data_pipelines.corpora import open_corpus
from data_pipelines.corpora.utterance import Corpus
from data_pipelines.local_engine import LocalEngine
from data_pipelines.prepare import PrepareConfig, prepare
from ellav_jax.codec import load_codec, load_codec_weights
from ellav_jax.codec.codec import Codec
from ellav_jax.codec.config import CodecFacts
from ellav_jax.frontend.frontend import default_frontend

ROOT = Path(__file__).parent.parent

# The tests start many processes, which compile the same few programs. Set before jax reads it, and inherited, by the
# processes that share the tests too.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"

# Commands that are run inside the tests' process find one device, whichever test comes first.
jax.config.update("jax_num_cpu_devices", 1)

# A shell ignores Ctrl-C for what it starts in the background; tests send it, to themselves and to their children.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The machine may be shared, and a slow example is no failure.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")


@pytest.fixture(scope="session")
def bundled_codec() -> Codec:
    return load_codec("bundled")


@pytest.fixture(scope="session")
def codec_facts() -> CodecFacts:
    return load_codec_weights("bundled").facts


@pytest.fixture(scope="session")
def small_corpus() -> Corpus:
    """25 bundled clips: 18 of train, 7 of test, in the corpus's order, none of them quarantined."""
    corpus = open_corpus("bundled")
    train = [one for one in corpus.utterances if one.split == "train"][::28][:18]
    test = [one for one in corpus.utterances if one.split == "test"][::4]
    kept = {one.id for one in train + test}
    return dataclasses.replace(corpus, utterances=[one for one in corpus.utterances if one.id in kept])


@pytest.fixture(scope="session")
def prepared_bundled(tmp_path_factory: pytest.TempPathFactory, small_corpus: Corpus, codec_facts: CodecFacts) -> Path:
    """A data set of `small_corpus` in 2 shards a split. Read only: copy it to change it."""
    out = tmp_path_factory.mktemp("prepared") / "bundled_25"
    prepare(
        small_corpus,
        out,
        codec_facts,
        default_frontend(),
        PrepareConfig(shards=2, group_size=8),
        LocalEngine(2),
    )
    return out


@pytest.fixture
def ellav() -> Callable[..., subprocess.CompletedProcess]:
    """Runs the command line in a process of its own: `ellav("inspect", path)`; text output is captured."""

    def run(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "launch.cli", *map(str, arguments)]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, **options)

    return run
