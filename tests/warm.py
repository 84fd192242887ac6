"""Real processes that need not import TensorFlow and MLflow anew: forks of one that has.

These imports are half of a short training. `Popen` and `run` are those of `subprocess`, but only
for `python -m MODULE ...` and `python -c CODE ...`. A fork has a process id, a working directory,
an environment, files and signals of its own, and imports this project's modules itself.
"""

import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import types

# No `onnxruntime`: it starts a thread on import, for which the end of a fork would wait in vain.
PACKAGES = """
alembic bs4 gdown git h5py imagehash keras matplotlib.pyplot mlflow.cli mlflow.projects
mlflow.pyfunc mlflow.store.model_registry.sqlalchemy_store mlflow.store.tracking.file_store
mlflow.store.tracking.sqlalchemy_store onnx optuna pandas skimage.color skimage.metrics tensorflow
tf2onnx tf2onnx.tfjs_utils
""".split()
SET_CHILD_SUBREAPER = 36  # prctl(2): whose parent has ended becomes a child of this process
MAX_BYTES = 2**17
WORDS_BYTES = 2**13  # of what `ps` may show of a fork


class Warm(subprocess.Popen):
    """A child of this process, forked from the one that has imported the packages."""

    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest):
        _, _, _, *pipes, _, _, _, _, _, new_session, _ = rest
        interpreter, *words = map(str, args)
        if interpreter != sys.executable or words[0] not in ("-m", "-c"):
            raise ValueError(f"Expected `python -m` or `python -c`. Received: {args}")
        files = [
            number if file == -1 else file for number, file in enumerate((pipes[0], *pipes[3::2]))
        ]
        environment = dict(os.environ if env is None else env)
        order = [words, environment, os.path.abspath(cwd or "."), new_session]
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1)
        socket.send_fds(_origin(), [json.dumps(order).encode()], files)
        self.pid = int(_origin().recv(MAX_BYTES))
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 0)
        self._child_created = True
        self._close_pipe_fds(*pipes)


Popen = Warm if sys.platform == "linux" else subprocess.Popen


def run(command, timeout=600, stderr=subprocess.PIPE, **options):
    """Run a command to its end, as `subprocess.run` does; what it writes is captured as text."""
    options |= {"stdout": subprocess.PIPE, "stderr": stderr, "text": True}
    with Popen(command, **options) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        finally:
            process.kill()
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


@functools.cache
def _origin():
    """Start the process that is forked; return a socket that takes orders."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    subprocess.Popen(
        [sys.executable, __file__, str(its.fileno()), "-" * WORDS_BYTES],
        pass_fds=[its.fileno()],
        env=environment | {"TF_CPP_MIN_LOG_LEVEL": "3"},  # as an entry point sets it
        stdout=subprocess.DEVNULL,
    )
    its.close()
    return ours


def _next_order(orders):
    """Fork for each order; return the order in the fork, and none when there will be no other."""
    while True:
        order, files, *_ = socket.recv_fds(orders, MAX_BYTES, 3)
        if not order:
            return None
        read, write = os.pipe()
        if (between := os.fork()) == 0:
            if child := os.fork():  # an orphan in a moment
                os.write(write, str(child).encode())
                os._exit(0)
            for number, file in enumerate(files):
                os.dup2(file, number)
            for file in (*files, read, write, orders.detach()):
                os.close(file)
            return json.loads(order)
        os.waitpid(between, 0)
        orders.send(os.read(read, 100))
        for file in (*files, read, write):
            os.close(file)


def _show(words):
    """Let `ps` show these words, over those of the process that was forked: see proc(5)."""
    with open("/proc/self/stat") as file:
        begin, end = map(int, file.read().rpartition(")")[2].split()[45:47])
    text = b"\0".join(map(os.fsencode, words))[: end - begin - 1]
    ctypes.memmove(begin, text.ljust(end - begin, b"\0"), end - begin)


def _become(words, environment, folder, new_session):
    """Be the interpreter that was called with these words."""
    _show([sys.executable, *words])
    if new_session:
        os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # as the environment says
    import numpy

    numpy.random.seed()
    added = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[0:1] = [folder, *filter(None, added)]
    option, what, *arguments = words
    sys.argv = [option, *arguments]
    if option == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(what, main.__dict__)


if __name__ == "__main__":
    with contextlib.closing(socket.socket(fileno=int(sys.argv[1]))) as orders:
        for package in PACKAGES:
            importlib.import_module(package)
        # MLflow looks once at all that is installed.
        sys.modules["mlflow"].utils.requirements_utils.warn_dependency_requirement_mismatches(
            ["mlflow"]
        )
        gc.collect()
        gc.freeze()  # or a collection would copy all of its pages
        order = _next_order(orders)
    if order:
        _become(*order)
