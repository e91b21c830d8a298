"""The official SDK for Python before the gateway: answers, streams, and what each refusal becomes.

Run by tests/it/sdks.rs: `sdk.py demo`, `sdk.py refusals` and `sdk.py away`. Keys and the base URL come in the
environment. node/sdk.mjs says the same for the other SDK.
"""

import concurrent.futures
import os
import sys
import time

import httpx2
import openai

BASE = os.environ["BASE"]
MESSAGES = [{"role": "user", "content": "Say hello."}]


class Wrong(Exception):
    """Something is not as it should be."""


def check(condition, what):
    if not condition:
        raise Wrong(what)


class Attempts:
    """A client whose requests are written down, each with its time and its answer's headers."""

    def __init__(self, key, **options):
        self.times, self.headers = [], []
        hooks = {
            "request": [lambda request: self.times.append(time.monotonic())],
            "response": [lambda response: self.headers.append(response.headers)],
        }
        self.client = openai.OpenAI(
            base_url=BASE, api_key=key, http_client=httpx2.Client(event_hooks=hooks), timeout=30, **options
        )

    def clear(self):
        self.times.clear()
        self.headers.clear()

    def ask(self, model="one", **options):
        return self.client.responses.create(model=model, input="Say hello.", **options)

    def chat(self, model="one", **options):
        return self.client.chat.completions.create(model=model, messages=MESSAGES, **options)

    def waited(self, what, attempts, least, most):
        """Checks that each attempt but the first came when the answer before it had said, in seconds."""
        check(len(self.times) == attempts, f"{what}: {attempts} attempts were expected, {len(self.times)} were made")
        for before, after, headers in zip(self.times, self.times[1:], self.headers):
            ms = headers.get("retry-after-ms")
            told = float(ms) / 1000 if ms else float(headers["retry-after"])
            check(least <= told <= most, f"{what}: it was told to wait {told} s")
            check(told - 0.05 <= after - before <= told + 10, f"{what}: it waited {after - before} s, and was told {told}")


def responses(who):
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

    raw = who.client.responses.with_raw_response.create(model="gpt-5.5", input="Say hello.")
    check(raw.headers["x-access-decision"].startswith("allow;"), "the decision")
    check(raw.request_id, "the request's id")


def cut(who):
    """A stream that is cut ends in an event that says so, or in an error: never as if it were whole."""
    try:
        events = [event.type for event in who.ask("gpt-5.5-sim-cut=6", stream=True)]
        check(events[-1] == "response.failed", f"a cut stream: {events}")
    except openai.APIError as error:
        check(error.code == "server_error", f"a cut stream: {error!r}")


def chat(who):
    answer = who.chat("gpt-5.5")
    check(answer.choices[0].message.content and answer.usage.completion_tokens > 0, f"a chat: {answer}")
    chunks = list(who.chat("gpt-5.5", stream=True))
    check(all(chunk.choices for chunk in chunks), "no chunk that was not asked for")
    check(all(not chunk.usage for chunk in chunks), "no usage that was not asked for")
    asked = list(who.chat("gpt-5.5", stream=True, stream_options={"include_usage": True}))
    check(asked[-1].usage.completion_tokens > 0 and not asked[-1].choices, "usage where it was asked for")


def models(who):
    check(any(model.id == "gpt-5.5" for model in who.client.models.list()), "models")


def demo():
    for name in ("ALLOWANCE", "CREDITS"):
        who = Attempts(os.environ[name])
        for api in (responses, cut, chat, models):
            api(who)
    nothing = Attempts(os.environ["NOTHING"])
    refused(nothing, openai.RateLimitError, 429, QUOTA, "credit_balance_exhausted", model="gpt-5.5")


def refused(who, kind, status, error_type, code, attempts=1, model="one"):
    """One refusal: the exception, its words, and that nothing is tried again in vain."""
    for way in (who.ask, who.chat):
        for stream in (False, True):
            who.clear()
            what = f"{code} ({way.__name__}, stream {stream})"
            try:
                way(model, stream=stream)
            except openai.APIStatusError as error:
                check(type(error) is kind, f"{what}: {kind.__name__} was expected, {error!r} came")
                check(error.status_code == status, f"{what}: {status} was expected, {error.status_code} came")
                check((error.type, error.code) == (error_type, code), f"{what}: {error.type}, {error.code} came")
                check(error.message and error.request_id, f"{what}: a message and an id")
            else:
                raise Wrong(f"{what}: nothing was refused")
            made = len(who.times)
            check(made == attempts, f"{what}: {attempts} attempts were expected, {made} were made")


INVALID, LIMIT, QUOTA = "invalid_request_error", "rate_limit_error", "insufficient_quota"


def short():
    """A short limit is waited out by the SDK itself: the second attempt passes."""
    who = Attempts(os.environ["SHORT"])
    who.ask()
    who.clear()
    who.ask()
    who.waited("a short limit", 2, 0.001, 4)


def long():
    who = Attempts(os.environ["LONG"])
    who.ask()
    refused(who, openai.RateLimitError, 429, LIMIT, "rate_limit_exceeded")
    refused(who, openai.BadRequestError, 400, INVALID, "request_exceeds_allowance", model="five")


def told_at_once():
    env = os.environ
    refused(Attempts(env["PREPAID"]), openai.RateLimitError, 429, QUOTA, "credit_balance_exhausted")
    capped = Attempts(env["CAPPED"])
    capped.ask()
    refused(capped, openai.RateLimitError, 429, QUOTA, "project_spend_limit_exceeded")
    refused(Attempts(env["VIDEO"]), openai.PermissionDeniedError, 403, INVALID, "feature_not_in_plan")
    refused(Attempts(env["SUSPENDED"]), openai.PermissionDeniedError, 403, INVALID, "account_suspended")
    refused(Attempts(env["FREE"]), openai.NotFoundError, 404, INVALID, "model_not_found", model="no-such-model")
    refused(Attempts("ofk_wrong"), openai.AuthenticationError, 401, INVALID, "invalid_api_key")


def in_flight(what, key, model):
    """What stands in the way is a request in flight: the SDK waits as it is told, and then passes."""

    def running():
        try:
            Attempts(key, max_retries=0).ask(model)
        except openai.InternalServerError:
            pass

    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(running)
        time.sleep(2)
        who = Attempts(key)
        who.ask()
        first.result()
    who.waited(what, 2, 5, 15)


def single():
    in_flight("in flight", os.environ["SINGLE"], "one-sim-wait=4000")


def held():
    """The one in flight holds the last credit, and fails: what it held comes back."""
    in_flight("held in flight", os.environ["HELD"], "one-sim-wait=4000+status=500")


def again():
    """The same call with the same key, while the first one runs: the SDK waits as it is told, and gets its answer."""
    key, model = {"Idempotency-Key": f"python-{time.time_ns()}"}, "one-sim-wait=1000"
    who = Attempts(os.environ["FREE"])
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(Attempts(os.environ["FREE"], max_retries=0).ask, model, extra_headers=key)
        time.sleep(0.5)
        answer = who.ask(model, extra_headers=key)
        check(answer == first.result(), "the same answer")
    who.waited("asked again", 2, 1, 1)
    check(who.headers[-1]["x-access-replayed"] == "true", "the answer is given again")
    other = Attempts(os.environ["FREE"])
    try:
        other.ask("one", extra_headers=key)
    except openai.UnprocessableEntityError as error:
        check(error.code == "idempotency_key_reused", f"another call with the same key: {error!r}")
    else:
        raise Wrong("another call with the same key: nothing was refused")
    check(len(other.times) == 1, "another call with the same key: nothing is tried again")


def refusals():
    """All of them side by side."""
    parts = (short, long, told_at_once, single, held, again)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for done in [pool.submit(part) for part in parts]:
            done.result()


def away():
    """The gateway's store is away: three attempts, each when the answer before it said."""
    who = Attempts(os.environ["FREE"])
    try:
        who.ask()
    except openai.InternalServerError as error:
        words = (error.status_code, error.type, error.code)
        check(words == (503, "service_unavailable_error", "server_is_overloaded"), f"away: {words} came")
    else:
        raise Wrong("away: nothing was refused")
    who.waited("away", 3, 1, 5)


if __name__ == "__main__":
    try:
        {"demo": demo, "refusals": refusals, "away": away}[sys.argv[1]]()
    except Wrong as wrong:
        sys.exit(f"sdk.py: {wrong}")
