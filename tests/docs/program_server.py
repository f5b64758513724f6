"""
Server that runs Python programs in forks of one process, which has imported the libraries already.

An import of torch, Transformers and the other libraries takes most of the time of a short command. `python
program_server.py SOCKET` serves until it is terminated; `run_in_fork` is the client.
"""

import importlib
import json
import os
import runpy
import signal
import socket
import sys
import traceback


SOCKET = "SAM_FT_DOCS_SERVER"  # environment variable with the path of the socket
_IMPORTS = (
    "accelerate", "datasets", "peft", "pycocotools.mask", "transformers", "sam_ft.commands.finetune",
    "sam_ft.commands.evaluate", "sam_ft.commands.predict", "sam_ft.training.sam2_trainer", "sam_ft.export.formats",
)  # fmt: skip
_MAX_BYTES = 2**20


def run_in_fork(words: list[str]) -> int:
    """
    Run a script in the environment and folder of this process, with its standard streams.

    Args:
        words (`list[str]`): Script and arguments, or `-c`, code and arguments.

    Returns:
        `int`: Exit status.
    """
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(os.environ[SOCKET])
        request = json.dumps({"words": words, "folder": os.getcwd(), "environment": dict(os.environ)})
        socket.send_fds(client, [request.encode()], [0, 1, 2])
        status = client.recv(16)
    return int(status or b"1")


def serve(path: str) -> None:
    """Serve requests, one after another."""
    for name in _IMPORTS:
        importlib.import_module(name)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        while True:
            client, _ = server.accept()
            with client:
                content, streams, *_ = socket.recv_fds(client, _MAX_BYTES, 3)
                child = os.fork()
                if not child:
                    _run(json.loads(content), streams)
                for stream in streams:
                    os.close(stream)
                status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                client.sendall(str(status if status >= 0 else 128 - status).encode())


def _run(request: dict, streams: list[int]) -> None:
    """Run a program in this process, which ends with its exit status."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    script, *arguments = request["words"]
    status = 1
    try:
        if script == "-c":
            sys.argv = ["sam-ft", *arguments[1:]]
            exec(compile(arguments[0], "-c", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = [script, *arguments]
            runpy.run_path(script, run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1])
