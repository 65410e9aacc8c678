"""Other people's test suites and programs on this loop, next to asyncio and uvloop. See `__main__.py`."""
