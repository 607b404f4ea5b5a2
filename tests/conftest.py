"""Fixtures that every test may use."""

import datetime as dt
import os
import pathlib
import resource

# Before jax is imported, so that it holds for the processes that tests start as well.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of a test's time is compilation; see `optimised` for the few where it is not.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # torch's threads would spin against the other workers'
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import jax
import pytest

from benchmarks.torchvision_import import import_torchvision
from delt_jax.runtime import mesh

# Many tests run the same programs: all workers share one cache, in pytest's own folder. A bounded
# cache is one that jax locks, so that no worker reads what another is writing.
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
jax.config.update("jax_compilation_cache_max_size", 8 << 30)

# A CPU that looks like four devices; tests see the first alone unless they are marked four_devices.
DEVICES = 4
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    jax.config.update("jax_num_cpu_devices", DEVICES)

# DELT_FUZZ_EXAMPLES=10000 draws as many examples for each property, new ones every time; by default
# a few, the same every time. The deadline fails what was slow; tests/fuzzing/mutations.py ends what
# hangs.
_examples = os.environ.get("DELT_FUZZ_EXAMPLES")
hypothesis.settings.register_profile(
    "delt_jax",
    max_examples=int(_examples or 25),
    derandomize=not _examples,
    database=None,
    deadline=dt.timedelta(seconds=60),
    print_blob=False,
    suppress_health_check=[*hypothesis.HealthCheck],  # fixtures are shared, examples are large
)
hypothesis.settings.load_profile("delt_jax")

PROGRAMS = 5 << 30  # bytes
TESTS = pathlib.Path(__file__).parent
REQUIRE_TORCH = os.environ.get("DELT_REQUIRE_TORCH") == "1"


def pytest_addoption(parser):
    parser.addoption(
        "--goldens",
        action="append",
        default=[],
        metavar="DIR",
        help="a further folder of golden .npz files in the format of tests/goldens (repeatable)",
    )


def pytest_configure(config):
    if hasattr(config, "cache"):
        jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("compiled")))


def golden_files(config, prefix_kd: bool) -> list[pathlib.Path]:
    """Golden files of tests/goldens and of every --goldens folder: student (kd_*) or recovery."""
    folders = [TESTS / "goldens", *map(pathlib.Path, config.getoption("--goldens"))]
    files = [file for folder in folders for file in sorted(folder.glob("*.npz"))]
    return [file for file in files if file.name.startswith("kd_") == prefix_kd]


def pytest_generate_tests(metafunc):
    for argument, prefix_kd in (("recovery_golden", False), ("student_golden", True)):
        if argument in metafunc.fixturenames:
            files = golden_files(metafunc.config, prefix_kd)
            metafunc.parametrize(argument, [_golden(file) for file in files])
    if "large_recovery_golden" in metafunc.fixturenames:
        files = [file for file in golden_files(metafunc.config, False) if _is_large(file)]
        # The smaller stem has half the pixels, so its first steps are part of `make test`.
        runs = [_golden(file, is_slow="imagenet_stem" not in file.stem) for file in files]
        metafunc.parametrize("large_recovery_golden", runs)


def _golden(file, is_slow=None):
    is_slow = _is_large(file) if is_slow is None else is_slow
    return pytest.param(file, id=file.stem, marks=[pytest.mark.slow] if is_slow else [])


def _is_large(file):
    """Whether a golden takes minutes: XLA's float64 convolutions are naive loops on a CPU."""
    return "resnet18" in file.stem


@pytest.fixture
def x64():
    """Runs the test with 64-bit types."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def optimised():
    """Compiles the test's programs in full: for float64 convolutions of more than toy size."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="session", autouse=True)
def one_device():
    """Shows the package the first device alone; see `four_devices`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mesh, "local_devices", lambda: jax.local_devices()[:1])
        yield


@pytest.fixture(scope="module", autouse=True)
def bounded_memory():
    """Forgets compiled programs after a module once they fill gigabytes."""
    yield
    pages = pathlib.Path("/proc/self/statm")  # of Linux
    if pages.exists() and int(pages.read_text().split()[1]) * resource.getpagesize() > PROGRAMS:
        jax.clear_caches()


@pytest.fixture(autouse=True)
def four_devices(request, one_device, monkeypatch):
    """Shows a test that is marked four_devices all devices."""
    if request.node.get_closest_marker("four_devices"):
        monkeypatch.setattr(mesh, "local_devices", jax.local_devices)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """What the package keeps between its runs lies in a folder of this session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DELT_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """The folder of real data beside the checkout; skips where it is absent."""
    folder = TESTS.parent.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder ../shared/data with real data is not there")
    return folder


@pytest.fixture(scope="session")
def torchvision():
    """torchvision, also where it was installed without its compiled operators."""
    pytest.importorskip("torch")
    try:
        return import_torchvision()
    except ImportError:
        pytest.skip("torchvision is not installed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Under DELT_REQUIRE_TORCH=1 (CI) a parity test that was skipped is a failure."""
    report = yield
    if REQUIRE_TORCH and report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        if any(name in reason for name in ("torch", "timm")):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid}: skipped, but DELT_REQUIRE_TORCH=1: {reason}"
    return report
