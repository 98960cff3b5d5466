"""llmock on loopback: a provider that fails as told, and judges the client that met the failures.

usage: llmock_server.py [--port PORT]        (0, the default, takes a free port)

Prints one line, `llmock listening on http://127.0.0.1:PORT`, once requests are answered; stops on SIGTERM. Then:

  OpenAI      POST /v1/chat/completions          Anthropic   POST /anthropic/v1/messages
  script      POST /_llmock/scenario  {"behaviors": [...]}, each one of
                {"type": "fail", "status": 429, "retry_after": 1, "times": 2}
                {"type": "delay", "seconds": 3}                       {"type": "slow_first_token", "seconds": 2}
                {"type": "stream_fault", "kind": "disconnect" | "truncate" | "stall" | "malformed", "after_chunks": 1, "stall_seconds": 30}
                {"type": "reply", "text": "...", "tool_calls": [{"name": "...", "arguments": {}}], "finish_reason": null}
                {"type": "tool_fault", "kind": "malformed_arguments" | "unknown_tool"}
              with "times" (default 1, null for ever) and "match" {"provider", "path", "model", "stream", "tools"}
  read        GET /_llmock/requests              every attempt: its body, times, status and fault
  verdict     GET /_llmock/verdict               strict: "errors" and "warnings" both 0
  forget      POST /_llmock/reset
"""

import argparse
import asyncio
import socket

import uvicorn
from llmock.main import create_app


class Announced(uvicorn.Server):
    """A server that says where it listens, once it does."""

    async def startup(self, sockets=None):
        await super().startup(sockets=sockets)
        if self.started:
            host, port = sockets[0].getsockname()
            print(f"llmock listening on http://{host}:{port}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    port = parser.parse_args().port
    listener = socket.create_server(("127.0.0.1", port))
    server = Announced(uvicorn.Config(create_app(), log_level="warning", access_log=False))
    asyncio.run(server.serve(sockets=[listener]))


if __name__ == "__main__":
    main()
