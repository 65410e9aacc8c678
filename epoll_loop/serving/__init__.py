"""The callback server: `serve(Events(), "tcp://…", …)`, beside asyncio's protocols and on the same loop."""
