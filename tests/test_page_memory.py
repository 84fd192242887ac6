"""What a page does for those who keep it running: no delays, no growth."""

import socket
import sys
import threading

import psutil
import pytest

from serve.page.__main__ import listen
from serve.page.events import give_memory_back

PIECE = 100_000  # bytes; glibc gives larger ones back by itself


def test_an_answer_does_not_wait_for_the_acknowledgment_of_its_head():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (
        listen(port) as listening,
        socket.create_connection(("127.0.0.1", port)),
        listening.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_memory_that_another_thread_has_freed_is_given_back():
    last = []

    def use_and_forget():
        pieces = [b"x" * PIECE for _ in range(1000)]
        last.append(pieces.pop())  # so that the memory below it is not at the heap's end

    thread = threading.Thread(target=use_and_forget)
    thread.start()
    thread.join()
    kept = psutil.Process().memory_info().rss
    give_memory_back()
    assert psutil.Process().memory_info().rss < kept - 500 * PIECE
