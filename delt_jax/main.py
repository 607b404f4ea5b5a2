"""Command line: `python -m delt_jax.main --config=configs/digits.py --workdir=runs/digits`."""

import os

# TensorFlow may be installed for preparing data sets; JAX alone uses the devices.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import jax
from absl import flags

from delt_jax import pipeline
from delt_jax.errors import InputError
from delt_jax.report.summary import closing
from delt_jax.runtime import hosts
from delt_jax.runtime.command_line import ConfigFlag, import_from_here, run_program
from delt_jax.runtime.workdir import WorkDir, expanded

_CONFIG = ConfigFlag()
flags.declare_key_flag("config")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything of this run lies.")
_STAGES = flags.DEFINE_list("stages", None, "Stages to run; by default what the config asks for.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Recompute stages made with another config.")
_DRY_RUN = flags.DEFINE_bool("dry-run", False, "Say what would be done and its cost; do nothing.")
_CACHE = flags.DEFINE_string(
    "compilation_cache", "~/.cache/delt_jax", "Compiled programs are kept here; empty: nowhere."
)
_HOSTS = flags.DEFINE_string(
    "hosts", "", "Several hosts, one run: auto (TPU pods, Slurm), or ADDRESS:PORT,INDEX/COUNT."
)
_HOST_TIMEOUT = flags.DEFINE_float("host_timeout", 60.0, "Seconds until a silent host is lost.")
flags.mark_flags_as_required(["workdir"])


def main(argv: list[str]) -> None:
    """Says what it will do, does it, and says where the results are."""
    if len(argv) > 1:
        raise InputError(f"arguments: got {argv[1]!r}, expected flags only (--config, --workdir)")
    if _CACHE.value:
        jax.config.update("jax_compilation_cache_dir", str(expanded(_CACHE.value)))
    crew = hosts.join(_HOSTS.value, _HOST_TIMEOUT.value)
    config, workdir = _CONFIG.resolve(), WorkDir(str(_WORKDIR.value))
    if _DRY_RUN.value:
        print(pipeline.estimate(config, workdir, _STAGES.value))
        return
    announcement = pipeline.announce(config, workdir, _STAGES.value)
    if crew.is_first:
        print(announcement, flush=True)
    pipeline.run(config, workdir, _STAGES.value, _OVERWRITE.value)
    crew.leave()
    if not crew.is_first:
        return
    print(closing(workdir))


def run() -> None:
    """Entry point: a mistake of the user's ends in one line, not a traceback."""
    import_from_here()
    try:
        run_program(
            main,
            _CONFIG.parse,
            on_mistake=lambda message: hosts.current().leave(message, is_mistake=True),
        )
    finally:
        hosts.current().leave("it says why itself")  # where it has not left already


if __name__ == "__main__":
    run()
