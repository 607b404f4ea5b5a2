"""Starts `delt_jax.main` as the hosts of one run, on this machine; and the config of such runs."""

import os
import pathlib
import socket
import subprocess
import sys

from tiny_run import make_config

from delt_jax.main import run

ROOT = pathlib.Path(__file__).parents[1]
LOST_SECONDS = 10


def get_config(folder):
    """A config for the command line: three class batches of one class, in three rounds each."""
    config = make_config(pathlib.Path(folder))
    options = config.synthesis
    options.iterations, options.round_iterations, options.class_batch = 60, 20, 2
    options.log_every, config.checkpoint_minutes = 1, 0.0
    config.select.batch_size = 8
    config.distilled.format, config.distilled.rounding = "png", "nearest"
    config.evaluate.seeds = (1, 2)
    config.evaluate.sets = ("distilled", "random")
    return config


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def start(data, workdir, count, *flags):
    """The processes of a run on `count` hosts; 0: without --hosts."""
    port = free_port()
    started = []
    for index in range(max(count, 1)):
        command = [sys.executable, __file__, f"--config={__file__}:{data}", f"--workdir={workdir}"]
        command += [f"--compilation_cache={data}/cache", *flags]
        if count:
            command += [f"--hosts=localhost:{port},{index}/{count}"]
            command += [f"--host_timeout={LOST_SECONDS}"]
        paths = [ROOT, ROOT / "tests", ROOT / "tests" / "stages"]
        variables = {
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "JAX_PLATFORMS": "cpu",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        started.append(
            subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **variables},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    return started


def finish(started, seconds=300):
    """Exit codes and output of each process."""
    outputs = [process.communicate(timeout=seconds)[0] for process in started]
    return [process.returncode for process in started], outputs


if __name__ == "__main__":
    run()
