"""The official SDK before the gateway: answers, streams, and what each refusal becomes.

Run by tests/it/python.rs: `sdk.py demo` and `sdk.py refusals`. Keys and the base URL come in the environment.
"""

import os
import sys
import threading
import time

import httpx
import openai

BASE = os.environ["BASE"]


class Attempts:
    """A client whose requests are counted, each with its time."""

    def __init__(self, key, **options):
        self.times = []
        hooks = {"request": [lambda request: self.times.append(time.monotonic())]}
        self.client = openai.OpenAI(
            base_url=BASE, api_key=key, http_client=httpx.Client(event_hooks=hooks), timeout=30, **options
        )

    def ask(self, model="one", **options):
        return self.client.responses.create(model=model, input="Say hello.", **options)


def check(condition, what):
    if not condition:
        sys.exit(f"sdk.py: {what}")


def demo():
    allowance, credits, nothing = (Attempts(os.environ[name]) for name in ("ALLOWANCE", "CREDITS", "NOTHING"))
    for who in (allowance, credits):
        answer = who.ask("gpt-5.5")
        check(answer.status == "completed" and answer.output_text, f"an answer: {answer}")
        check(answer.usage.output_tokens > 0, f"its usage: {answer.usage}")
        again = who.client.responses.retrieve(answer.id)
        check(again.id == answer.id, "an answer is there afterwards")
        follow = who.ask("gpt-5.5", previous_response_id=answer.id)
        check(follow.usage.input_tokens > answer.usage.input_tokens, "a conversation goes on")
        who.client.responses.delete(answer.id)

        events = [event.type for event in who.ask("gpt-5.5", stream=True)]
        check(events[0] == "response.created" and events[-1] == "response.completed", f"a stream: {events}")
        with who.client.responses.stream(model="gpt-5.5", input="Say hello.") as stream:
            check(stream.get_final_response().usage.output_tokens > 0, "the stream helper")

        messages = [{"role": "user", "content": "Say hello."}]
        chat = who.client.chat.completions.create(model="gpt-5.5", messages=messages)
        check(chat.choices[0].message.content and chat.usage.completion_tokens > 0, f"a chat: {chat}")
        chunks = list(who.client.chat.completions.create(model="gpt-5.5", messages=messages, stream=True))
        check(all(chunk.choices for chunk in chunks), "no chunk that was not asked for")
        check(all(not chunk.usage for chunk in chunks), "no usage that was not asked for")
        options = {"include_usage": True}
        asked = list(
            who.client.chat.completions.create(
                model="gpt-5.5", messages=messages, stream=True, stream_options=options
            )
        )
        check(asked[-1].usage.completion_tokens > 0 and not asked[-1].choices, "usage where it was asked for")
        check(any(model.id == "gpt-5.5" for model in who.client.models.list()), "models")
        raw = who.client.responses.with_raw_response.create(model="gpt-5.5", input="Say hello.")
        check(raw.headers["x-access-decision"].startswith("allow;"), "the decision")
        check(raw.request_id, "the request's id")

    refused(nothing, openai.RateLimitError, 429, "insufficient_quota", "credit_balance_exhausted", model="gpt-5.5")


def refused(who, kind, status, error_type, code, attempts=1, model="one"):
    """One refusal: the exception, its words, and that nothing is tried again in vain."""
    who.times.clear()
    try:
        who.ask(model)
    except openai.APIStatusError as error:
        check(type(error) is kind, f"{code}: {kind.__name__} was expected, {error!r} came")
        check(error.status_code == status, f"{code}: {status} was expected, {error.status_code} came")
        check((error.type, error.code) == (error_type, code), f"{code}: {error.type}, {error.code} came")
        check(error.message and error.request_id, f"{code}: a message and an id")
    else:
        sys.exit(f"sdk.py: {code}: nothing was refused")
    check(len(who.times) == attempts, f"{code}: {attempts} attempts were expected, {len(who.times)} were made")


def refusals():
    key = {name: os.environ[name] for name in os.environ}
    invalid, limit, quota = "invalid_request_error", "rate_limit_error", "insufficient_quota"

    # A short limit is waited out by the SDK itself: the second attempt passes.
    short = Attempts(key["SHORT"])
    short.ask()
    short.times.clear()
    began = time.monotonic()
    short.ask()
    check(len(short.times) == 2, f"a short limit: 2 attempts were expected, {len(short.times)} were made")
    waited = short.times[1] - short.times[0]
    check(1 <= waited <= 4.5, f"a short limit: it waited {waited} s")
    check(time.monotonic() - began < 6, "a short limit is a short wait")

    long = Attempts(key["LONG"])
    long.ask()
    began = time.monotonic()
    refused(long, openai.RateLimitError, 429, limit, "rate_limit_exceeded")
    refused(long, openai.BadRequestError, 400, invalid, "request_exceeds_allowance", model="five")
    check(time.monotonic() - began < 5, "a long limit is told at once")

    refused(Attempts(key["PREPAID"]), openai.RateLimitError, 429, quota, "credit_balance_exhausted")
    capped = Attempts(key["CAPPED"])
    capped.ask()
    refused(capped, openai.RateLimitError, 429, quota, "project_spend_limit_exceeded")
    refused(Attempts(key["VIDEO"]), openai.PermissionDeniedError, 403, invalid, "feature_not_in_plan")
    refused(Attempts(key["SUSPENDED"]), openai.PermissionDeniedError, 403, invalid, "account_suspended")
    refused(Attempts(key["FREE"]), openai.NotFoundError, 404, invalid, "model_not_found", model="no-such-model")
    refused(Attempts("ofk_wrong"), openai.AuthenticationError, 401, invalid, "invalid_api_key")

    # What stands in the way is a request in flight: the SDK waits as it is told, and then passes.
    single = Attempts(key["SINGLE"])
    running = threading.Thread(target=Attempts(key["SINGLE"]).ask, args=["one-sim-wait=3000"])
    running.start()
    time.sleep(1)
    single.ask()
    running.join()
    check(len(single.times) == 2, f"in flight: 2 attempts were expected, {len(single.times)} were made")
    waited = single.times[1] - single.times[0]
    check(5 <= waited <= 16, f"in flight: it waited {waited} s")


if __name__ == "__main__":
    {"demo": demo, "refusals": refusals}[sys.argv[1]]()
