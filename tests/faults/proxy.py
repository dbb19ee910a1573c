"""A TCP proxy for one link between two nodes: lets bytes through, cuts either direction, delays, garbles, resets."""

import random
import socket
import struct
import threading
import time
from collections.abc import Callable

_PIECE_BYTES = 65536
_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Listens on `listen` (a port of this machine) and connects to `target`; faults may change at any time.

    `forward` is from who connects to `target`, `backward` the other way: each takes a piece and returns what goes on
    (None: nothing does, though the connection stays).
    """

    def __init__(self, listen: int, target: int) -> None:
        self.target = target
        self.forward: Callable[[bytes], bytes | None] = _as_is
        self.backward: Callable[[bytes], bytes | None] = _as_is
        self.delay_s = 0.0
        self.piece_bytes = _PIECE_BYTES
        self.refuse = False
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", listen), backlog=256)
        self._acceptor = threading.Thread(target=self._accept, name=f"proxy-{listen}", daemon=True)
        self._acceptor.start()

    def heal(self) -> None:
        """As good as new, for connections made from now on; those that lost bytes are reset."""
        self.forward = self.backward = _as_is
        self.delay_s, self.piece_bytes, self.refuse = 0.0, _PIECE_BYTES, False
        self.reset()

    def black_hole(self, *, forward: bool = True, backward: bool = True) -> None:
        """Bytes vanish, connections stay: a cable pulled, in one direction or both."""
        self.forward = _nothing if forward else _as_is
        self.backward = _nothing if backward else _as_is

    def reset(self) -> None:
        """End every connection with a reset, wherever in a frame it is."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                _hang_up(end, reset=True)

    def close(self) -> None:
        self.refuse = True
        _hang_up(self._listener, reset=False)
        self.reset()
        self._acceptor.join(5)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.refuse:
                _hang_up(near, reset=True)
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                _hang_up(near, reset=True)
                continue
            far.settimeout(None)
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.append((near, far))
            for source, sink, way in ((near, far, "forward"), (far, near, "backward")):
                threading.Thread(target=self._pump, args=(source, sink, way), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, way: str) -> None:
        try:
            while piece := source.recv(self.piece_bytes):
                if self.delay_s:
                    time.sleep(self.delay_s)
                change: Callable[[bytes], bytes | None] = getattr(self, way)
                changed = change(piece)
                if changed is None:
                    continue
                for at in range(0, len(changed), self.piece_bytes):
                    sink.sendall(changed[at : at + self.piece_bytes])
        except OSError:
            pass
        for end in (source, sink):
            _hang_up(end, reset=False)


def flipping(probability: float, seed: int) -> Callable[[bytes], bytes]:
    """One bit of a piece is flipped, now and then."""
    dice = random.Random(seed)

    def change(piece: bytes) -> bytes:
        if dice.random() >= probability:
            return piece
        garbled = bytearray(piece)
        garbled[dice.randrange(len(garbled))] ^= 1 << dice.randrange(8)
        return bytes(garbled)

    return change


def _as_is(piece: bytes) -> bytes | None:
    return piece


def _nothing(piece: bytes) -> bytes | None:
    return None


def _hang_up(end: socket.socket, *, reset: bool) -> None:
    try:
        if reset:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.shutdown(socket.SHUT_RD)  # wakes who reads it; the last reference then sends the reset
        else:
            end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    end.close()
