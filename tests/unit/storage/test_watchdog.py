import socket
import threading

from airflow_provider_mps.storage.watchdog import Watch, WatchedConnection, watching


class ConnectionBase:
    def __init__(self, sock):
        self.sock = sock

    def request(self):
        pass


class Connection(WatchedConnection, ConnectionBase):
    pass


class StoppedError(Exception):
    pass


def raise_stopped():
    raise StoppedError


def list_watchdogs():
    return [thread for thread in threading.enumerate() if thread.name == "mps-download-watchdog"]


def test_connection_is_shut_down_when_check_raises():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(60)
        with watching(raise_stopped):
            Connection(ours).request()
            assert ours.recv(1) == b""


def test_connection_of_other_download_is_not_shut_down():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection, watch = Connection(ours), Watch(raise_stopped)
        connection.request()
        watch.use(connection, ours)  # as a download that has given its connection back
        watch.shut_down()
        theirs.send(b"x")
        assert ours.recv(1) == b"x"


def test_one_thread_watches_all_downloads():
    for _ in range(3):
        with watching(lambda: None), watching(lambda: None):
            assert len(list_watchdogs()) == 1


def test_inner_watch_ends_before_outer_one():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(60)
        is_stopped = threading.Event()
        with watching(lambda: raise_stopped() if is_stopped.is_set() else None):
            with watching(lambda: None):
                pass
            Connection(ours).request()
            is_stopped.set()
            assert ours.recv(1) == b""
