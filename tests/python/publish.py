"""Publishes one task as an agent and prints its result. Arguments: kind, body, and an object of further headers.

Environment as in story.py. Here because the official client sends whatever headers it is given, the same one twice too.
"""

import asyncio
import json
import os
import sys
import uuid

import nats

AGENT = os.environ["AGENT"]


async def main(kind, body, headers):
    nc = await nats.connect(
        os.environ["NATS_URL"],
        nkeys_seed=os.environ["NKEY_SEED_FILE"],
        inbox_prefix=f"_INBOX.agent.{AGENT}".encode(),
    )
    token = uuid.uuid4().hex
    results = await nc.subscribe(f"reply.{AGENT}.{token}")
    headers = {**headers, "tidegate-reply": token}
    await nc.jetstream().publish(f"task.{AGENT}.{kind}", body.encode(), headers=headers)
    print((await results.next_msg(timeout=60)).data.decode())
    await nc.close()


asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
