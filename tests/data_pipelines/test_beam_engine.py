import dataclasses
import os
import subprocess
import sys

import pytest

from data_pipelines.beam_engine import BeamEngine
from data_pipelines.local_engine import LocalEngine
from data_pipelines.prepare import PrepareConfig, prepare
from ellav_jax.errors import InputError
from ellav_jax.frontend.frontend import default_frontend

CONFIG = PrepareConfig(shards=2, group_size=8)
TWO_PROCESSES = ["--runner=DirectRunner", "--direct_running_mode=multi_processing", "--direct_num_workers=2"]


def _files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.slow
def test_beams_processes_write_the_same_bytes_as_the_local_engine(
    tmp_path, prepared_bundled, small_corpus, codec_facts
):
    prepare(small_corpus, tmp_path / "out", codec_facts, default_frontend(), CONFIG, BeamEngine(TWO_PROCESSES))
    assert _files(tmp_path / "out") == _files(prepared_bundled)


@pytest.mark.slow
def test_beam_continues_what_the_local_engine_began(tmp_path, prepared_bundled, small_corpus, codec_facts):
    def interrupt(done, total, quarantined):
        if done >= 8:
            raise KeyboardInterrupt

    arguments = small_corpus, tmp_path / "out", codec_facts, default_frontend(), CONFIG
    with pytest.raises(KeyboardInterrupt):
        prepare(*arguments, LocalEngine(2), progress=interrupt)
    summary = prepare(*arguments, BeamEngine(TWO_PROCESSES))
    assert summary.continued_from >= 8
    assert _files(tmp_path / "out") == _files(prepared_bundled)


@pytest.mark.slow
def test_the_command_line_hands_beams_own_options_on(tmp_path):
    """In Beam's own process, as its in-memory runner works: encoding must have one thread there too."""
    options = ["--limit", "6", "--shards", "2", "--group-size", "4"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}

    def run(out, *more):
        command = [sys.executable, "-m", "launch.cli", "prepare", "bundled", str(tmp_path / out), *options, *more]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)

    local, beam = run("local"), run("beam", "--engine", "beam", "--", "--direct_running_mode=in_memory")
    assert (local.returncode, beam.returncode) == (0, 0), beam.stderr
    assert "found 12 utterances = 12 written" in beam.stdout
    assert _files(tmp_path / "beam") == _files(tmp_path / "local")


def test_bad_input_that_only_a_worker_sees_is_one_clear_error(tmp_path, small_corpus, codec_facts):
    gone = dataclasses.replace(codec_facts, name=str(tmp_path / "gone.safetensors"))
    with pytest.raises(InputError) as caught:
        prepare(small_corpus, tmp_path / "out", gone, default_frontend(), CONFIG, BeamEngine(TWO_PROCESSES))
    assert "gone.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "while running" not in str(caught.value)


def test_options_that_beam_refuses_are_refused_at_once():
    for options in (["--runner=Flnk"], ["--direct_num_workers=many"]):
        with pytest.raises(InputError, match=f"Beam refuses the options {options[0]}: .+"):
            BeamEngine(options)


def test_options_for_beam_without_beam_are_refused(tmp_path, ellav):
    done = ellav("prepare", "bundled", tmp_path / "out", "--", "--runner=FlinkRunner")
    assert done.returncode == 2
    assert done.stderr == "ellav: error: options behind -- (--runner=FlinkRunner) are Beam's: they need --engine beam\n"


def test_a_missing_apache_beam_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(InputError, match=r"pip install 'ellav-jax\[beam\]'"):
        BeamEngine()
