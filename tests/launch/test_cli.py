import errno
import importlib.util
import re
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from ellav_jax.errors import InputError, RunError
from launch import cli

ROOT = Path(__file__).parents[2]


@pytest.fixture
def command(monkeypatch):
    """Adds a subcommand `try` that does what a test asks for: `command(function, continues=False)`."""

    def add(function, continues=False):
        monkeypatch.setitem(sys.modules, "trial_command", types.SimpleNamespace(main=function))
        monkeypatch.setitem(cli.COMMANDS, "try", cli.Command("a trial", "trial_command:main", continues))

    return add


def _raiser(error):
    def function(arguments):
        raise error

    return function


def test_help_answers_in_under_a_second_and_lists_every_command(ellav):
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        done = ellav("--help")
        seconds.append(time.monotonic() - start)
    assert done.returncode == 0
    assert min(seconds) < 1.0
    for name, one in cli.COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(one.help)}$", done.stdout, re.MULTILINE)


def test_help_imports_nothing_heavy():
    heavy = {"jax", "torch", "tensorflow", "numpy", "tyro", "rich", "flax", "soundfile"}
    code = f"import sys; from launch import cli; cli.main(['--help']); print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_of_the_table_is_there(name):
    module, function = cli.COMMANDS[name].target.split(":")
    assert importlib.util.find_spec(module) is not None
    assert callable(getattr(importlib.import_module(module), function))


def test_a_command_gets_the_arguments_after_its_name(command, capsys):
    command(print)
    assert cli.main(["try", "a", "--b", "3"]) == 0
    assert capsys.readouterr().out == "['a', '--b', '3']\n"


def test_no_command_shows_the_usage_and_fails(capsys):
    assert cli.main([]) == 2
    assert "usage: ellav COMMAND" in capsys.readouterr().err


def test_an_unknown_command_is_refused_and_the_known_ones_named(capsys):
    assert cli.main(["trian"]) == 2
    assert capsys.readouterr().err.startswith("ellav: error: unknown command 'trian'; the commands are: prepare, ")


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert re.fullmatch(r"ellav \S.*\n", capsys.readouterr().out)


def test_a_users_mistake_is_one_line_and_status_2(command, capsys):
    command(_raiser(InputError("a.wav: silent;\n  expected speech")))
    assert cli.main(["try"]) == 2
    assert capsys.readouterr() == ("", "ellav: error: a.wav: silent; expected speech\n")


def test_a_run_that_cant_go_on_is_one_line_and_status_1(command, capsys):
    command(_raiser(RunError("step 5: loss nan")))
    assert cli.main(["try"]) == 1
    assert capsys.readouterr() == ("", "ellav: error: step 5: loss nan\n")


@pytest.mark.parametrize("continues", [True, False])
def test_an_interruption_is_status_130_and_says_whether_the_command_continues(command, capsys, continues):
    command(_raiser(KeyboardInterrupt()), continues)
    assert cli.main(["try"]) == 130
    err = capsys.readouterr().err
    assert err.strip().startswith("ellav: interrupted")
    assert ("the same command continues where this one stopped" in err) is continues


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_one_line_and_status_1(command, capsys, number):
    command(_raiser(OSError(number, "No space left on device", "out/chunk")), continues=True)
    assert cli.main(["try"]) == 1
    assert capsys.readouterr().err == (
        "ellav: error: no space left while writing out/chunk (No space left on device); "
        "make room and give the same command again\n"
    )


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "denied"), ZeroDivisionError("a bug")])
def test_other_errors_keep_their_traceback(command, error):
    command(_raiser(error))
    with pytest.raises(type(error)):
        cli.main(["try"])


LOST = """
import gc, os, signal, sys, time, types
from launch import cli

def wait_for_ctrl_c(arguments):
    def interrupted_in_here(phase, info):
        if phase == "start" and interrupted_in_here in gc.callbacks:
            gc.callbacks.remove(interrupted_in_here)
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000): pass
    gc.callbacks.append(interrupted_in_here)
    gc.collect()
    time.sleep(10)
    print("not interrupted")

sys.modules["trial"] = types.SimpleNamespace(main=wait_for_ctrl_c)
cli.COMMANDS["try"] = cli.Command("", "trial:main")
cli.main()
"""


def test_ctrl_c_inside_the_garbage_collector_is_not_lost():
    done = subprocess.run([sys.executable, "-c", LOST, "try"], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\nellav: interrupted\n")


def test_wrong_options_are_status_2(ellav):
    for arguments in (["inspect"], ["inspect", "a", "--frobnicate"], ["prepare", "bundled", "out", "--shards", "many"]):
        done = ellav(*arguments)
        assert done.returncode == 2
        assert done.stdout == ""
        assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_ends_the_output_quietly(prepared_bundled):
    script = f"{sys.executable} -m launch.cli inspect {prepared_bundled} | true"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stderr == ""
