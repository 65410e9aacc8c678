"""What is awaited: names, connections, servers. Plain Python, never compiled."""
