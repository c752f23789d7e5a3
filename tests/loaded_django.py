"""A Python that has loaded Django already: each run of a `manage.py` is forked from one process, without the half
second that a fresh interpreter takes to import Django. For the tests that migrate and rehearse dozens of projects."""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

# Whoever starts it has this process, which stands for the one that does the work: it passes signals on, ends as that
# one ends, and takes it along when it is killed. What is no `manage.py` goes to the interpreter as it is, and so does
# what Python itself is told by variables.
CLIENT: Final = """#!{python} -IS
import os, sys
argv, real = sys.argv[1:], "{python}"
known = ("PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE")
own = [name for name in os.environ if name.startswith("PYTHON") and name not in known]
if own or not argv or os.path.basename(argv[0]) != "manage.py" or not os.path.isfile(argv[0]):
    os.execv(real, [real, *argv])
import _signal as signal, _socket, marshal  # not the modules around them, which take longer than all else here
server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
try:
    work = marshal.dumps((argv, os.getcwd(), dict(os.environ)))
    server.connect("{folder}/socket")
    streams = b"".join(number.to_bytes(4, sys.byteorder) for number in range(3))
    server.sendmsg([work], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
    child = int(server.recv(16))
except (OSError, ValueError):
    os.execv(real, [real, *argv])

def forward(number, frame):
    for kill in (os.killpg, os.kill):
        try:
            return kill(child, number)
        except ProcessLookupError:
            pass

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, forward)
code = int(server.recv(16) or 1)
if code < 0:
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""

SERVER: Final = """
import array, atexit, gc, marshal, os, runpy, select, shutil, signal, socket, sys, threading, time, traceback
import django.core.management.commands.migrate, django.core.management.commands.shell
import django.db.backends.postgresql.base, django.contrib.auth.hashers, django.forms, django.http, django.urls
import django.core.cache.backends.filebased, django.template.backends.django, django.views.generic

folder = sys.argv[1]
listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listening.bind(os.path.join(folder, "socket"))
listening.listen(64)
ended, wake = os.pipe()
os.set_blocking(wake, False)
signal.signal(signal.SIGCHLD, lambda number, frame: None)
signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
print("listening", flush=True)
gc.freeze()

def run(argv, directory, env, streams):
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        os.chdir(directory)
        for number, given in enumerate(streams):
            os.dup2(given, number)
        os.closerange(3, 1024)
        sys.stdin = sys.__stdin__ = open(0)
        sys.stdout = sys.__stdout__ = open(1, "w", 1 if env.get("PYTHONUNBUFFERED") else -1)
        sys.stderr = sys.__stderr__ = open(2, "w", 1, errors="backslashreplace")
        os.environ.clear()
        os.environ.update(env)
        time.tzset()
        sys.dont_write_bytecode = bool(env.get("PYTHONDONTWRITEBYTECODE"))
        sys.argv = argv
        path = [one for one in env.get("PYTHONPATH", "").split(os.pathsep) if one]
        sys.path[:1] = [os.path.dirname(os.path.abspath(argv[0])), *path]
        runpy.run_path(argv[0], run_name="__main__")
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
        if isinstance(left.code, str):
            print(left.code, file=sys.stderr)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            threading._shutdown()
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)

def begin():
    client, _ = listening.accept()
    work, ancillary, _, _ = client.recvmsg(1 << 20, socket.CMSG_SPACE(12))
    streams = array.array("i", b"".join(data for _, _, data in ancillary))
    if work:
        if (pid := os.fork()) == 0:
            run(*marshal.loads(work), streams)
        clients[pid] = client
        answer(client, pid)
    for given in streams:
        os.close(given)

def answer(client, number):
    try:
        client.send(str(number).encode())
    except OSError:
        pass  # it is dead: that is seen below

clients, over = {}, False
while clients or not over:
    asked = {client: pid for pid, client in clients.items() if client is not None}
    ready, _, _ = select.select([ended, listening, *asked, *([] if over else [0])], [], [])
    over = over or 0 in ready  # the tests have ended
    if listening in ready:
        begin()
    if ended in ready:
        os.read(ended, 4096)
    for client in ready:
        if client in asked:  # it says nothing more: whoever was asked for this is dead
            clients[asked[client]] = None
            for kill in (os.killpg, os.kill):
                try:
                    kill(asked[client], signal.SIGKILL)
                except ProcessLookupError:
                    pass
            client.close()
    for pid in list(clients):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found and (client := clients.pop(pid)) is not None:
            answer(client, os.waitstatus_to_exitcode(status))
            client.close()
shutil.rmtree(folder, ignore_errors=True)
"""


_serving: Final[list[subprocess.Popen[bytes]]] = []


@functools.cache
def python() -> str:
    """The program, to be named where a plan file names its Python; it is there as long as this process is."""
    folder = Path(tempfile.mkdtemp(prefix="safepoint-django-"))
    client = folder / "python"
    client.write_text(CLIENT.format(python=sys.executable, folder=folder))
    client.chmod(0o755)
    words, pipe = [sys.executable, "-c", SERVER, str(folder)], subprocess.PIPE
    # It ends with its input: when the last process has gone that was forked from this one.
    serving = subprocess.Popen(words, stdin=pipe, stdout=pipe, start_new_session=True)
    _serving.append(serving)
    assert serving.stdout is not None and serving.stdout.readline() == b"listening\n"
    return str(client)
