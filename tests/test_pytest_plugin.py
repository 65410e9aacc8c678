"""pytest --epoll-loop: every way in which tests get a loop, each in a pytest of its own."""

import sys
import tomllib
from pathlib import Path

import pytest

import epoll_loop

pytest_plugins = ["pytester"]

PACKAGE = Path(epoll_loop.__file__).parent
PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
HEADER = f"epoll_loop: {epoll_loop.__version__}, {'compiled' if epoll_loop.COMPILED else 'pure'} build"
IN_USE = "import asyncio\nfrom epoll_loop import Loop\n\ndef loop():\n    return asyncio.get_running_loop()\n"

PLAIN = f"""
{IN_USE}
import threading, unittest

async def main():
    assert type(loop()) is Loop

def test_run():
    asyncio.run(main())

def test_runner():
    with asyncio.Runner() as runner:
        runner.run(main())

def test_new_event_loop():
    new = asyncio.new_event_loop()
    new.run_until_complete(main())
    new.close()

def test_thread():
    done = []
    thread = threading.Thread(target=lambda: done.append(asyncio.run(main())))
    thread.start()
    thread.join()
    assert done == [None]

class TestCase(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        assert type(asyncio.get_event_loop()) is Loop

    async def asyncSetUp(self):
        self.before = loop()

    async def test_method(self):
        assert type(loop()) is Loop
        assert loop() is self.before
"""

PYTEST_ASYNCIO = f"""
{IN_USE}
import pytest, pytest_asyncio
loops = {{}}

@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def of_module():
    yield loop()
    assert type(loop()) is Loop

@pytest_asyncio.fixture
async def of_function():
    return loop()

@pytest.mark.asyncio
async def test_function(of_function):
    assert type(loop()) is Loop
    assert loop() is of_function

def test_between():
    asyncio.run(asyncio.sleep(0))

@pytest.mark.asyncio(loop_scope="module")
async def test_module(of_module):
    assert loop() is of_module

@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("scope", [pytest.param(name, marks=pytest.mark.asyncio(loop_scope=name))
                                   for name in ("class", "module", "package", "session")])
class TestScope:
    async def test_scope(self, scope, number):
        assert type(loop()) is Loop
        assert loops.setdefault(scope, loop()) is loop()
"""

AUTO = f"""
{IN_USE}
import pytest

@pytest.fixture
async def fixture():
    yield loop()
    assert type(loop()) is Loop

async def test_auto(fixture):
    assert type(loop()) is Loop
    assert loop() is fixture
"""

ANYIO = f"""
{IN_USE}
import pytest
pytestmark = pytest.mark.anyio

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.fixture
async def fixture():
    before = loop()
    yield before
    assert loop() is before

async def test_default(fixture):
    assert type(loop()) is Loop
    assert loop() is fixture

@pytest.mark.parametrize("anyio_backend", [("asyncio", {{"loop_factory": asyncio.SelectorEventLoop}})])
async def test_own_choice(fixture):
    assert type(loop()) is asyncio.SelectorEventLoop
"""

AIOHTTP = f"""
{IN_USE}
from aiohttp import web

async def test_client(aiohttp_client, loop):
    async def hello(request):
        return web.Response(text=type(asyncio.get_running_loop()).__module__)
    app = web.Application()
    app.router.add_get("/", hello)
    client = await aiohttp_client(app)
    assert type(loop) is Loop
    assert await (await client.get("/")).text() == "epoll_loop.loop"
"""


NOT_OURS = """
import asyncio

async def test_own():
    assert type(asyncio.get_running_loop()) is asyncio.SelectorEventLoop
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder with the package as it is when installed, with its entry points and a list of its files."""
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", raising=False)
    pytester.path.joinpath("epoll_loop").symlink_to(PACKAGE)
    entry_points = tomllib.loads(PYPROJECT.read_text())["project"]["entry-points"]["pytest11"]
    info = pytester.mkdir("epoll_loop-0.dist-info")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: epoll-loop\nVersion: 0\n")
    (info / "RECORD").write_text("epoll_loop/__init__.py,,\nepoll_loop/pytest_plugin.py,,\n")
    lines = [f"{name} = {value}" for name, value in entry_points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines]))
    return pytester


def run(project: pytest.Pytester, source: str, *options: str, passed: int, conftest: str = "") -> None:
    """Run tests on the loop: all of them pass, without a warning. The options load all other plugins that there are."""
    project.makepyfile(source)
    if conftest:
        project.makeconftest(conftest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        done = project.runpytest_subprocess("-p", "epoll_loop", "--epoll-loop", "-W", "error", *options, timeout=50)
    done.assert_outcomes(passed=passed)
    done.stdout.fnmatch_lines([HEADER])


def test_plain_asyncio(project: pytest.Pytester) -> None:
    run(project, PLAIN, passed=5)


def test_policy_that_is_put_back(project: pytest.Pytester) -> None:
    put_back = """
import asyncio, pytest, warnings

@pytest.fixture(autouse=True)
def put_back():
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(None)
"""
    run(project, PLAIN, conftest=put_back, passed=5)


def test_policy_that_conftest_has_set(project: pytest.Pytester) -> None:
    other = """
import asyncio, warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    class Other(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self):
            raise AssertionError("this policy is asked")
    asyncio.set_event_loop_policy(Other())
"""
    run(project, PLAIN, conftest=other, passed=5)


def test_without_policies(project: pytest.Pytester) -> None:
    """As from Python 3.16 on: the name is not there."""
    gone = """
import asyncio, warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    asyncio.get_event_loop_policy()  # asyncio itself needs one here
for name in ("DefaultEventLoopPolicy", "__getattr__"):
    vars(asyncio).pop(name, None)
"""
    run(project, PLAIN, conftest=gone, passed=5)


STRICT = ("-p", "asyncio", "--asyncio-mode=strict", "-o", "asyncio_default_fixture_loop_scope=function")


def test_pytest_asyncio_strict(project: pytest.Pytester) -> None:
    run(project, PYTEST_ASYNCIO, *STRICT, passed=11)


def test_pytest_asyncio_with_xdist(project: pytest.Pytester) -> None:
    run(project, PYTEST_ASYNCIO, *STRICT, "-p", "xdist", "-n", "1", passed=11)


def test_pytest_asyncio_auto(project: pytest.Pytester) -> None:
    run(project, AUTO, *STRICT, "--asyncio-mode=auto", passed=1)


def test_project_that_chooses_a_loop_keeps_it(project: pytest.Pytester) -> None:
    own = "import asyncio\ndef pytest_asyncio_loop_factories(): return {'own': asyncio.SelectorEventLoop}"
    run(project, NOT_OURS, *STRICT, "--asyncio-mode=auto", conftest=own, passed=1)


def test_anyio(project: pytest.Pytester) -> None:
    pytest.importorskip("anyio")
    run(project, ANYIO, "-p", "anyio", passed=2)


def test_aiohttp(project: pytest.Pytester) -> None:
    deprecated = ("-W", "ignore:aiohttp.pytest_plugin will be removed:DeprecationWarning")
    run(project, AIOHTTP, "-p", "aiohttp.pytest_plugin", *deprecated, passed=1)


def test_off_by_default(project: pytest.Pytester) -> None:
    project.makepyfile(NOT_OURS)
    done = project.runpytest_subprocess(*STRICT[2:], "--asyncio-mode=auto", "-W", "error", timeout=50)
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(["plugins: *epoll-loop-0*"])
    done.stdout.no_fnmatch_line("epoll_loop: *")


def test_importing_the_plugin_imports_no_loop(project: pytest.Pytester) -> None:
    code = "import epoll_loop.pytest_plugin, sys; print({'asyncio', 'ssl', 'epoll_loop.loop'} & sys.modules.keys())"
    assert project.run(sys.executable, "-c", code, timeout=50).outlines == ["set()"]


def test_pytest_as_a_program_on_the_loop(project: pytest.Pytester) -> None:
    """Imported before pytest runs, the package gives it no reason to warn."""
    project.makepyfile(PLAIN)
    pytest_ = ("-m", "epoll_loop", "-m", "pytest", "-W", "error", "-p", "no:asyncio")
    done = project.run(sys.executable, *pytest_, timeout=50)
    done.assert_outcomes(passed=5)
