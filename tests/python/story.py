"""An agent in Python: submits one task, watches its tokens, and takes its result. Needs only `pip install nats-py[nkeys]`.

Environment: NATS_URL; AGENT, its name; NKEY_SEED_FILE, the credentials file that `tidegate agent add` wrote; and, where they differ from
the defaults, INBOX_PREFIX (what the agent may receive answers on) and PROMPT. The tenant is nowhere here: the server adds it.
"""

import asyncio
import json
import os
import uuid

import nats

AGENT = os.environ["AGENT"]
TASK_TIMEOUT_S = 60


async def main():
    nc = await nats.connect(
        os.environ["NATS_URL"],
        nkeys_seed=os.environ["NKEY_SEED_FILE"],
        inbox_prefix=os.environ.get("INBOX_PREFIX", f"_INBOX.agent.{AGENT}").encode(),
    )

    task, token = str(uuid.uuid4()), uuid.uuid4().hex
    results = await nc.subscribe(f"reply.{AGENT}.{token}")
    deltas = await nc.subscribe(f"delta.{AGENT}.{task}")

    envelope = {
        "schema_version": 1,
        "labels": {"sensitivity": "internal"},
        "limits": {"deadline_ms": TASK_TIMEOUT_S * 1000},
        "input": {
            "messages": [{"role": "user", "content": os.environ.get("PROMPT", "Name one colour of the sea.")}],
            "sampling": {"max_tokens": 16, "temperature": 0},
            "stream": True,
        },
    }
    # In headers: what is wrong with an envelope is answered there too.
    headers = {"Nats-Msg-Id": task, "ce-id": task, "tidegate-reply": token}
    # The id makes it safe to send again: the server stores a task once, and says so.
    for attempt in ("first", "again"):
        ack = await nc.jetstream().publish(f"task.{AGENT}.chat", json.dumps(envelope).encode(), headers=headers)
        print(f"accepted ({attempt}): {ack.stream} {ack.seq}, duplicate: {bool(ack.duplicate)}")

    result = json.loads((await results.next_msg(timeout=TASK_TIMEOUT_S)).data)
    print("tokens streamed:", deltas.pending_msgs)
    print("state:", result["state"])
    if result["state"] == "completed":
        print("output:", result["output"]["text"])
    else:
        print("because:", result["error"]["message"])
    await nc.close()


asyncio.run(main())
