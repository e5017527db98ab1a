"""A TCP proxy in front of a server, whose network path can be cut: silently (bytes vanish, connections stay open) or with
a reset. Runs in a thread."""

import selectors
import socket
import threading


class Proxy:
    def __init__(self, port):
        self.target = ("127.0.0.1", port)
        self.is_cut = False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.pairs = {}
        self.is_stopping = False
        self.lock = threading.Lock()
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while not self.is_stopping:
            for key, _ in self.selector.select(0.05):
                with self.lock:
                    if key.fileobj is self.listener:
                        self._accept()
                    else:
                        self._forward(key.fileobj)

    def _accept(self):
        client, _ = self.listener.accept()
        if self.is_cut:
            # A silent network: the connection hangs without an answer.
            self.pairs[client] = None
            return
        try:
            server = socket.create_connection(self.target, 2)
        except OSError:
            client.close()
            return
        for a, b in ((client, server), (server, client)):
            self.pairs[a] = b
            self.selector.register(a, selectors.EVENT_READ)

    def _forward(self, source):
        target = self.pairs.get(source)
        try:
            data = source.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._close(source)
        elif not self.is_cut and target is not None:
            try:
                target.sendall(data)
            except OSError:
                self._close(source)

    def _close(self, source):
        """Both ends of a pair; nothing when they are closed already."""
        if source not in self.pairs:
            return
        for end in (source, self.pairs.pop(source)):
            if end is not None:
                self.pairs.pop(end, None)
                if end.fileno() in self.selector.get_map():
                    self.selector.unregister(end)
                end.close()

    def cut(self):
        """From now on every byte is lost."""
        with self.lock:
            self.is_cut = True

    def mend(self):
        """New connections work again; those that lost bytes are closed."""
        with self.lock:
            self.is_cut = False
            for end in list(self.pairs):
                self._close(end)

    def stop(self):
        self.is_stopping = True
        self.thread.join(5)
        with self.lock:
            for end in list(self.pairs):
                self._close(end)
            self.listener.close()
