import subprocess
import sys
import textwrap


def _run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)


def test_a_run_that_hangs_ends_and_says_where():
    done = _run(
        """
        import time
        from ellav_jax.training.watchdog import watchdog

        def waits_for_ever():
            time.sleep(50)

        with watchdog(0.5) as feed:
            feed()
            waits_for_ever()
        """
    )
    assert done.returncode == 1
    assert "in waits_for_ever" in done.stderr


def test_a_run_that_takes_its_steps_is_left_alone():
    done = _run(
        """
        import time
        from ellav_jax.training.watchdog import watchdog

        with watchdog(0.5) as feed:
            for _ in range(4):
                feed()
                time.sleep(0.2)
        time.sleep(0.6)
        with watchdog(0) as feed:
            feed()
        print("done")
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
