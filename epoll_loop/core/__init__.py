"""The hot path: kernel calls, handles, timers, the poller and the reactor. Nothing here awaits."""
