"""llama.cpp's side of `engine`: python llama.py MODEL QUESTION TOKENS ANSWERS prints {"prompt": …, "decode": …} in tokens a second.

One thread, one sequence, no cache of earlier prompts; the best of its answers counts, as on our side.
"""

import json
import sys
import urllib.request

import xllamacpp


def main():
    model, question, tokens, answers = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx = 2048
    params.n_parallel = 1
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)

    def post(path, body):
        request = urllib.request.Request(
            server.listening_address + path, json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    prompt = post("/apply-template", {"messages": [{"role": "user", "content": question}]})["prompt"]
    body = {"prompt": prompt, "temperature": 0.0, "n_predict": tokens, "cache_prompt": False, "ignore_eos": True}
    timings = [post("/completion", body)["timings"] for _ in range(answers)]
    best = {
        "prompt": max(timing["prompt_per_second"] for timing in timings),
        "decode": max(timing["predicted_per_second"] for timing in timings),
    }
    print(json.dumps(best), flush=True)


if __name__ == "__main__":
    main()
