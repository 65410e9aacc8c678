"""What of CPython's `test.test_asyncio` is not run, and why.

A reason stands once, above the tests that it keeps away. Patterns are those of `fnmatch`, on `Class.test_name`,
where `LoopTests` is the class that `suite_child.py` makes of those for each selector. `python -m compat suite
--excluded` runs what is excluded and tells which exclusions are not needed any more.
"""

from __future__ import annotations

import sys
from fnmatch import fnmatchcase

SOCK = "not there yet: loop.sock_recv() and the like"
UDP = "not there yet: datagram endpoints"
PIPES = "not there yet: pipes"
PROCESSES = "not there yet: subprocesses"
SENDFILE = "not there yet: sendfile"
TLS = "not there yet: TLS"
MOCKED = "replaces what asyncio's own modules call by mocks"
PRIVATE = "looks into the private parts of asyncio's loop"

MODULES: dict[str, str] = {
    "test_proactor_events": "tests another loop",
    "test_selector_events": "tests another loop",
    "test_sendfile": SENDFILE,
    "test_sock_lowlevel": SOCK,
    "test_ssl": TLS,
    "test_sslproto": TLS,
    "test_subprocess": PROCESSES,
    "test_windows_events": "Windows",
    "test_windows_utils": "Windows",
}
"""Whole modules."""

TESTS: dict[str, dict[str, list[str]]] = {
    "test_base_events": {
        UDP: ["BaseEventLoopWithSelectorTests.test_create_datagram_endpoint_*"],
        TLS: ["BaseEventLoopWithSelectorTests.test_create_connection_ssl_server_hostname_default"],
        PRIVATE: ["BaseEventLoopWithSelectorTests.test_accept_connection_*"],
        MOCKED: [
            "BaseEventLoopWithSelectorTests.test_create_connection_bluetooth",
            "BaseEventLoopWithSelectorTests.test_create_connection_connect_err",
            "BaseEventLoopWithSelectorTests.test_create_connection_ip_addr",
            "BaseEventLoopWithSelectorTests.test_create_connection_ipv6_scope",
            "BaseEventLoopWithSelectorTests.test_create_connection_multiple*",
            "BaseEventLoopWithSelectorTests.test_create_connection_no_inet_pton",
            "BaseEventLoopWithSelectorTests.test_create_connection_service_name",
            "BaseEventLoopWithSelectorTests.test_create_connection_timeout",
            "BaseEventLoopWithSelectorTests.test_create_server_cant_bind",
            "BaseEventLoopWithSelectorTests.test_create_server_nosoreuseport",
            "BaseEventLoopWithSelectorTests.test_create_server_soreuseport_only_defined",
            "BaseEventLoopWithSelectorTests.test_log_slow_callbacks",
        ],
    },
    "test_events": {
        SOCK: ["LoopTests.test_prompt_cancellation"],
        UDP: ["LoopTests.*datagram*"],
        PIPES: ["LoopTests.*_pipe*", "LoopTests.*_pty*"],
        PROCESSES: ["LoopTests.test_subprocess_*"],
        TLS: ["LoopTests.test_create*ssl*", "LoopTests.test_ssl_*"],
        MOCKED: ["LoopTests.test_create_server_multiple_hosts_*"],
        PRIVATE: ["LoopTests.test_timeout_rounding"],
    },
    "test_server": {
        PRIVATE: ["SelectorStartServerTests.test_start_*server_1"],
    },
    "test_streams": {
        PIPES: ["StreamTests.test_read_all_from_pipe_reader"],
        TLS: ["StreamTests.*ssl", "StreamTests.test_start_tls"],
    },
    "test_unix_events": {
        PROCESSES: ["TestFork.test_fork_asyncio_subprocess"],
        SENDFILE: ["SelectorEventLoopUnixSockSendfileTests.*"],
        MOCKED: [
            "SelectorEventLoopSignalTests.test_add_signal_handler_install_error*",
            "SelectorEventLoopSignalTests.test_add_signal_handler_setup_error",
            "SelectorEventLoopSignalTests.test_close*",
            "SelectorEventLoopSignalTests.test_remove_signal_handler",
            "SelectorEventLoopSignalTests.test_remove_signal_handler_2",
            "SelectorEventLoopSignalTests.test_remove_signal_handler_error*",
            "SelectorEventLoopUnixSocketTests.test_create_unix_server_bind_error",
        ],
        PRIVATE: [
            "SelectorEventLoopSignalTests.test_check_signal",
            "SelectorEventLoopSignalTests.test_handle_signal_*",
        ],
    },
}
"""Single tests, by module and reason."""

if sys.version_info < (3, 13):
    # Later versions of these tests connect real clients.
    TESTS["test_server"][PRIVATE].append("TestServer2.test_wait_closed_*")


def reason(module: str, test: str) -> str | None:
    """Why a test is not run, or None if it is."""
    for why, patterns in TESTS.get(module, {}).items():
        if any(fnmatchcase(test, pattern) for pattern in patterns):
            return why
    return None
