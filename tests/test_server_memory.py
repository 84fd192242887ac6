"""What a server does for those who keep it running: no delays, no growth."""

import socket
import sys
import threading

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper

from serve.page.__main__ import listen
from serve.page.events import give_memory_back
from serve.pyfunc import open_session

PIECE = 100_000  # bytes; glibc gives larger ones back by itself


def test_an_answer_does_not_wait_for_the_acknowledgment_of_its_head():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (
        listen("127.0.0.1", port) as listening,
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


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_a_network_does_not_keep_the_memory_of_the_largest_request(tmp_path):
    wide = helper.make_node("Concat", ["gray"] * 20, ["wide"], axis=3)
    narrow = helper.make_node("ReduceMax", ["wide"], ["colored"], axes=[3])
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 128, 128, channels])]
        for name, channels in (("gray", 3), ("colored", 1))
    ]
    graph = helper.make_graph([wide, narrow], "wide", *ends)
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(network, tmp_path / "wide.onnx")
    session = open_session(str(tmp_path / "wide.onnx"))
    session.run(None, {"gray": np.zeros((1, 128, 128, 3), np.float32)})
    give_memory_back()
    before = psutil.Process().memory_info().rss
    session.run(None, {"gray": np.zeros((24, 128, 128, 3), np.float32)})  # 94 MB on the way
    give_memory_back()
    assert psutil.Process().memory_info().rss < before + 30_000_000
