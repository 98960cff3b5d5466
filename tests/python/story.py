"""An agent in Python: submits one task, watches its tokens, and takes its result. Needs only `pip install nats-py[nkeys]`.

Environment: NATS_URL; AGENT, its name; NKEY_SEED_FILE, the credentials file that `tidegate agent add` wrote; and, where they differ from
the defaults, INBOX_PREFIX (what the agent may receive answers on) and PROMPT. The tenant is nowhere here: the server adds it.
"""

import asyncio
import hashlib
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
    async def submit(body, token):
        # In headers: what is wrong with an envelope is answered there too.
        headers = {"ce-id": task, "tidegate-reply": token}
        # The server stores what has one idempotency key once. It names all that is sent, so that only the very same message is left out.
        headers["Nats-Msg-Id"] = f"{task}/{hashlib.sha256(token.encode() + body).hexdigest()}"
        return await nc.jetstream().publish(f"task.{AGENT}.chat", body, headers=headers)

    body = json.dumps(envelope).encode()
    # So it is safe to send again what was not acknowledged.
    for attempt in ("first", "again"):
        ack = await submit(body, token)
        print(f"accepted ({attempt}): {ack.stream} {ack.seq}, duplicate: {bool(ack.duplicate)}")

    result = json.loads((await results.next_msg(timeout=TASK_TIMEOUT_S)).data)
    print("tokens streamed:", deltas.pending_msgs)
    print("state:", result["state"])
    if result["state"] == "completed":
        print("output:", result["output"]["text"])
    else:
        print("because:", result["error"]["message"])

    # Who missed the answer asks again, under the same id and where it listens now; or reads it where results are kept.
    token = uuid.uuid4().hex
    answers = await nc.subscribe(f"reply.{AGENT}.{token}")
    await submit(body, token)
    again = json.loads((await answers.next_msg(timeout=TASK_TIMEOUT_S)).data)
    kept = await nc.jetstream().get_last_msg("RESULTS", f"result.{AGENT}.{task}", direct=True)
    print("the first result again:", again == result, "and kept:", json.loads(kept.data) == result)
    # Something else needs another id.
    envelope["labels"]["sensitivity"] = "restricted"
    await submit(json.dumps(envelope).encode(), token)
    other = json.loads((await answers.next_msg(timeout=TASK_TIMEOUT_S)).data)
    print("something else under the same id:", other["state"], other["error"]["code"])
    await nc.close()


asyncio.run(main())
