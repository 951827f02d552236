"""The cheapest service there is, so that the benchmark measures the way to it: 1 KB, keep-alive.

Listens on PORT, answers every request with the same bytes, and says "serving" when it is ready.
"""

import os
import socket
import threading

BODY = b"x" * 1024
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 1024\r\n\r\n" + BODY
END_OF_REQUEST = b"\r\n\r\n"


def serve(connection: socket.socket) -> None:
    """Answer each request of one connection; requests have no body."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    received = b""
    with connection:
        while part := connection.recv(65536):
            received += part
            while END_OF_REQUEST in received:
                _, _, received = received.partition(END_OF_REQUEST)
                connection.sendall(ANSWER)


def main() -> None:
    """Serve until killed."""
    with socket.create_server(("127.0.0.1", int(os.environ["PORT"])), backlog=128) as listener:
        print("serving", flush=True)  # noqa: T201  # its parent waits for this line
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
