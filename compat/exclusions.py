"""What of CPython's `test.test_asyncio` is not run, and why.

A reason stands once, above the tests that it keeps away. Patterns are those of `fnmatch`, on `Class.test_name`,
where `LoopTests` is the class that `suite_child.py` makes of those for each selector. `python -m compat suite
--excluded` runs what is excluded and tells which exclusions are not needed any more.
"""

from __future__ import annotations

import sys
from fnmatch import fnmatchcase

WATCHERS = "wants asyncio's child watchers, which Python 3.14 has no more"
OTHER = "tests another loop, or the parts of asyncio's own"
CALLS = "counts on what asyncio's modules, and they alone, do with a mock of `os`, `signal` or `socket`"


def private(name: str) -> str:
    """The reason of a test that is about something private of asyncio's."""
    return f"reaches into {name}"


MODULES: dict[str, str] = {
    "test_proactor_events": OTHER,
    "test_selector_events": OTHER,
    "test_windows_events": OTHER,
    "test_windows_utils": OTHER,
}
"""Whole modules."""

TESTS: dict[str, dict[str, list[str]]] = {
    "test_base_events": {
        private("BaseSelectorEventLoop, which does not know os.sendfile()"): [
            "BaseLoopSockSendfileTests.test__sock_sendfile_native_failure",
            "BaseLoopSockSendfileTests.test_sock_sendfile_no_fallback",
        ],
        private("asyncio.staggered"): [
            "BaseEventLoopWithSelectorTests.test_create_connection_happy_eyeballs_empty_exceptions",
        ],
        private("loop._accept_connection()"): ["BaseEventLoopWithSelectorTests.test_accept_connection_*"],
        private("loop._add_callback()"): ["BaseEventLoopTests.test__add_callback_*"],
        # They hand mocks for sockets to transports, and keep them from the selector by mocking this, too.
        private("loop._add_reader()"): [
            "BaseEventLoopWithSelectorTests.test_create_connection_ip_addr",
            "BaseEventLoopWithSelectorTests.test_create_connection_ipv6_scope",
            "BaseEventLoopWithSelectorTests.test_create_connection_no_inet_pton",
            "BaseEventLoopWithSelectorTests.test_create_connection_service_name",
            "BaseEventLoopWithSelectorTests.test_create_datagram_endpoint_ip_addr",
        ],
        private("loop._make_ssl_transport()"): [
            "BaseEventLoopWithSelectorTests.test_create_connection_ssl_server_hostname_default",
        ],
        private("loop._make_socket_transport() and the like"): ["BaseEventLoopTests.test_not_implemented"],
        private("loop._ready"): ["BaseEventLoopTests.test_call_soon"],
        private("loop._run_forever_setup()"): ["BaseEventLoopTests.test_custom_run_forever_integration"],
        private("loop._scheduled"): ["BaseEventLoopTests.test__run_once*", "BaseEventLoopTests.test_call_later"],
        private("loop._selector"): [
            "BaseEventLoopTests.test_run_forever_pre_stopped",
            "BaseEventLoopTests.test_single_selecter_event_callback_after_stopping",
        ],
        CALLS: [
            "BaseEventLoopWithSelectorTests.test_create_connection_bluetooth",  # sock.connect(), not sock.connect_ex()
            "BaseEventLoopWithSelectorTests.test_create_connection_transport_error_closes_sock",  # not its fileno()
            # A ValueError that the selector raises for a mock.
            "BaseEventLoopWithSelectorTests.test_create_server_soreuseport_only_defined",
        ],
    },
    "test_events": {
        private("asyncio.events._ThreadSafeHandle"): ["LoopTests.test_call_soon_threadsafe_handle_*"],
        private("loop._internal_fds"): ["LoopTests.test_internal_fds"],
        private("loop._run_once()"): ["LoopTests.test_timeout_rounding"],
        private("loop._start_serving()"): ["LoopTests.test_create_server_multiple_hosts_*"],
        private("loop._stop_serving()"): ["LoopTests.test_prompt_cancellation"],
    },
    "test_ssl": {
        private("transport._read_ready_cb"): [
            "TestSSL.test_remote_shutdown_receives_trailing_data_on_slow_socket",
        ],
        private("transport._ssl_protocol"): ["TestSSL.test_flush_before_shutdown"],
        private("transport._test__append_write_backlog()"): ["TestSSL.test_remote_shutdown_receives_trailing_data"],
    },
    "test_sslproto": {
        private("loop._make_socket_transport()"): ["SslProtoHandshakeTests.test_connection_lost_when_busy"],
    },
    "test_subprocess": {
        private("loop._watcher"): [
            "Subprocess*WatcherTests.test_pid_not_reaped_before_exit_published",
            "Subprocess*WatcherTests.test_watcher_implementation",
        ],
        WATCHERS: ["GenericWatcherTests.test_create_subprocess_fails_with_inactive_watcher"],
    },
    "test_unix_events": {
        private("loop._check_signal()"): ["SelectorEventLoopSignalTests.test_check_signal"],
        private("loop._handle_signal()"): ["SelectorEventLoopSignalTests.test_handle_signal_*"],
        private("loop._signal_handlers"): [
            "SelectorEventLoopSignalTests.test_add_signal_handler_install_error2",
            "SelectorEventLoopSignalTests.test_close*",
            "SelectorEventLoopSignalTests.test_remove_signal_handler_2",
        ],
        private("loop._sock_sendfile_native_impl()"): [
            "SelectorEventLoopUnixSockSendfileTests.test_sock_sendfile_blocking_error",
            "SelectorEventLoopUnixSockSendfileTests.test_sock_sendfile_cancel*",
            "SelectorEventLoopUnixSockSendfileTests.test_sock_sendfile_exception",
            "SelectorEventLoopUnixSockSendfileTests.test_sock_sendfile_os_error_*",
        ],
        private("transport._process_exited()"): ["PidfdChildWatcherTests.test_pidfd_closed_when_waitpid_raises"],
        CALLS: [
            "SelectorEventLoopSignalTests.test_add_signal_handler_install_error",  # set_wakeup_fd() without keyword
            "SelectorEventLoopSignalTests.test_add_signal_handler_install_error3",  # how often set_wakeup_fd()
            "SelectorEventLoopUnixSockSendfileTests.test_sock_sendfile_not_available",  # os.sendfile() is bound here
        ],
    },
}
"""Single tests, by module and reason."""

if sys.version_info < (3, 13):
    # Later versions of these tests connect real clients.
    TESTS["test_server"] = {private("server._attach()"): ["TestServer2.test_wait_closed_*"]}


def reason(module: str, test: str) -> str | None:
    """Why a test is not run, or None if it is."""
    for why, patterns in TESTS.get(module, {}).items():
        if any(fnmatchcase(test, pattern) for pattern in patterns):
            return why
    return None


_WS = "tests/test_client_ws_functional.py::test_concurrent_close_multiple_tasks[pyloop]"
_WHEN = "tests/test_helpers.py::test_when_timeout_smaller_second_with_low_threshold[pyloop]"
_AIOHTTP = {
    _WS: "three tasks read one WebSocket, and the answer comes an iteration later than on asyncio (as on uvloop)",
    _WHEN: "asserts that the private `_when` of a timer is an int where it was made with one; it is a float here",
}
DIFFERENCES: dict[str, dict[str, str]] = {"aiohttp": _AIOHTTP, "aiohttp on aiofastnet's transports": _AIOHTTP}
"""What is run, and fails here and not on asyncio, by suite and test: why that is right."""

AIOHTTP: dict[str, str] = {
    "tests/test_connector.py::test_tcp_connector_do_not_raise_connector_ssl_error": private("transport._ssl_protocol"),
}
"""Tests of aiohttp, as pytest names them."""
