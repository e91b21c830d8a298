"""The official SDK for Python before the gateway: answers, streams, videos, and what each refusal becomes.

Run by tests/it/sdks.rs with the name of a part: the last lines list them. Keys and the base URL come in the
environment. node/sdk.mjs says the same for the other SDK.
"""

import concurrent.futures
import decimal
import functools
import os
import sys
import time
import warnings

import httpx2
import openai

BASE = os.environ["BASE"]
MESSAGES = [{"role": "user", "content": "Say hello."}]


class Wrong(Exception):
    """Something is not as it should be."""


def check(condition, what):
    if not condition:
        raise Wrong(what)


def until(what, condition):
    """Waits for a condition, however slow the machine is."""
    deadline = time.monotonic() + 60
    while not condition():
        check(time.monotonic() < deadline, f"not in a minute: {what}")
        time.sleep(0.05)


class Attempts:
    """A client whose requests are written down, each with its time and its answer's headers."""

    def __init__(self, key, before_again=None, **options):
        self.times, self.headers, self.before_again = [], [], before_again
        hooks = {"request": [self.asks], "response": [lambda response: self.headers.append(response.headers)]}
        self.client = openai.OpenAI(
            base_url=BASE, api_key=key, http_client=httpx2.Client(event_hooks=hooks), timeout=120, **options
        )

    def asks(self, request):
        """Writes a request down; what stood in the way of the one before it is cleared away first."""
        self.times.append(time.monotonic())
        if self.before_again and len(self.times) > 1:
            self.before_again()

    def clear(self):
        self.times.clear()
        self.headers.clear()

    def ask(self, model="one", **options):
        return self.client.responses.create(model=model, input="Say hello.", **options)

    def chat(self, model="one", **options):
        return self.client.chat.completions.create(model=model, messages=MESSAGES, **options)

    def film(self, model="sora-2", **options):
        return self.client.videos.create(model=model, prompt="A cat.", **options)

    def feature(self):
        """What is left of the plan's only feature."""
        return self.client.get("/access", cast_to=object)["features"][0]

    def wallet(self):
        """The credits that the user has."""
        layers = self.feature()["layers"]
        return decimal.Decimal(next(layer["balance"]["available"] for layer in layers if "balance" in layer))

    def waited(self, what, attempts, least, most):
        """Checks that each attempt but the first came when the answer before it had said, in seconds."""
        check(len(self.times) == attempts, f"{what}: {attempts} attempts were expected, {len(self.times)} were made")
        for before, after, headers in zip(self.times, self.times[1:], self.headers):
            ms = headers.get("retry-after-ms")
            told = float(ms) / 1000 if ms else float(headers["retry-after"])
            check(least <= told <= most, f"{what}: it was told to wait {told} s")
            waited = after - before
            check(told - 0.05 <= waited <= told + 60, f"{what}: it waited {waited} s, and was told {told}")


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
    """One refusal of a generation, by each API and as a stream or not."""
    for way in (who.ask, who.chat):
        for stream in (False, True):
            call = functools.partial(way, model, stream=stream)
            denied(who, call, kind, status, error_type, code, attempts, f"{way.__name__}, stream {stream}")


def denied(who, call, kind, status, error_type, code, attempts=1, which="video"):
    """One refusal: the exception, its words, and that nothing is tried again in vain."""
    who.clear()
    what = f"{code} ({which})"
    try:
        call()
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

    def refused_once():
        who.clear()
        who.ask()
        return len(who.times) > 1

    # Each that passes opens a window, which has gone by only where the next comes late.
    until("a short limit", refused_once)
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


def in_flight(what, key, model, is_free, **options):
    """What stands in the way is a stream in flight: the SDK waits as it is told, and passes once that has ended."""
    running = Attempts(key, max_retries=0).ask(f"{model}-sim-pace=100+events=6000", stream=True, **options)
    looks = Attempts(key)

    def end():
        running.close()
        until(what, lambda: is_free(looks))

    who = Attempts(key, before_again=end)
    who.ask(model, **options)
    who.waited(what, 2, 5, 15)


def single():
    in_flight("in flight", os.environ["SINGLE"], "one", lambda who: who.feature()["guards"][0]["left"] == "1")


def held():
    """The one in flight holds most of the last credit: what it does not use comes back."""
    most = {"max_output_tokens": 1000}
    in_flight("held in flight", os.environ["HELD"], "gpt-5.5", lambda who: who.wallet() > 0.8, **most)


def again():
    """The same call with the same key, while the first one runs: the SDK waits as it is told, and gets its answer."""
    key, model = {"Idempotency-Key": f"python-{time.time_ns()}"}, "one-sim-pace=1000+events=12"
    call = {"model": model, "stream": True, "extra_headers": key}
    first, answer = Attempts(os.environ["FREE"], max_retries=0).ask(**call), []

    def is_kept():
        try:
            Attempts(os.environ["FREE"], max_retries=0).ask(**call).close()
        except openai.ConflictError:
            return False
        return True

    def end():
        answer.extend(first)
        until("the answer is kept", is_kept)

    who = Attempts(os.environ["FREE"], before_again=end)
    check(list(who.ask(**call)) == answer, "the same answer")
    who.waited("asked again", 2, 1, 1)
    check(who.headers[-1]["x-access-replayed"] == "true", "the answer is given again")
    other = Attempts(os.environ["FREE"])
    reused = functools.partial(other.ask, "one", extra_headers=key)
    denied(other, reused, openai.UnprocessableEntityError, 422, INVALID, "idempotency_key_reused", which="another call")


def side_by_side(*parts):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for done in [pool.submit(part) for part in parts]:
            done.result()


def refusals():
    side_by_side(short, long, told_at_once, single, held, again)


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


def ended(who, words="", **options):
    """A video that has ended, as the SDK's own helper finds out, and what it cost: it asks as often as it is told."""
    # One that has ended before it is first asked for tells too little: the next takes longer.
    for runs_ms in (1500, 10_000, 60_000):
        before = who.wallet()
        who.clear()
        model = f"sora-2-sim-runs={runs_ms}+poll-after=400{words}"
        video = who.client.videos.create_and_poll(model=model, prompt="A cat.", **options)
        polls, told = who.times[1:], who.headers[1:]
        if len(polls) > 1:
            break
        who.client.videos.delete(video.id)
    for earlier, later in zip(polls, polls[1:]):
        check(0.35 <= later - earlier <= 60, f"a poll after {later - earlier} s")
    check(all(headers["openai-poll-after-ms"] == "400" for headers in told[:-1]), "when to poll again")
    check(who.headers[0]["x-access-decision"].startswith("allow;"), "the decision")
    check(not any("x-access-decision" in headers for headers in told), "a poll is no decision")
    return video, before - who.wallet()


def spoilt():
    """Nobody pays for a video that fails."""
    who = Attempts(os.environ["SPOILT"])
    for words, code in (("+failed", "video_generation_failed"), ("+moderated", "moderation_blocked")):
        video, cost = ended(who, words)
        check((video.status, video.error.code) == ("failed", code), f"a video that fails: {video}")
        check(cost == 0, f"a video that fails costs {cost}")
        denied(who, lambda: who.client.videos.download_content(video.id), openai.NotFoundError, 404, INVALID, None)


def film():
    who = Attempts(os.environ["FILM"])
    videos = who.client.videos
    made, cost = ended(who, seconds="8", size="1280x720")
    check((made.status, made.seconds, made.size) == ("completed", "8", "1280x720"), f"a video: {made}")
    check(cost == 20, f"8 seconds: {cost}")
    before = who.wallet()

    content = videos.download_content(made.id)
    check(content.response.headers["content-type"] == "video/mp4" and len(content.read()) == 4096, "its content")
    thumbnail = videos.download_content(made.id, variant="thumbnail")
    check(thumbnail.response.headers["content-type"] == "image/webp" and len(thumbnail.read()) == 1000, "a thumbnail")

    again = videos.remix(made.id, prompt="A dog.")
    check((again.remixed_from_video_id, again.seconds) == (made.id, "8"), f"a remix: {again}")
    check(videos.poll(again.id).status == "completed" and before - who.wallet() == 20, f"a remix: {who.wallet()}")

    # A reference within the limit of a body, and one that is larger.
    ids = [again.id, made.id]
    for size in (1000, 3 << 20):
        video = who.film(seconds="12", input_reference=("a cat.png", bytes(size), "image/png"))
        check((video.seconds, videos.poll(video.id).status) == ("12", "completed"), f"with {size} bytes: {video}")
        ids.insert(0, video.id)
    check(before - who.wallet() == 80, f"two more, of 12 seconds: {who.wallet()}")

    pages = list(videos.list(limit=3).iter_pages())
    check([len(page.data) for page in pages] == [3, 1], f"pages: {pages}")
    check([video.id for video in videos.list(limit=1)] == ids, "the newest first, page by page")
    check([video.id for video in videos.list(order="asc")] == ids[::-1], "the oldest first")
    others(made.id)

    check(videos.delete(made.id).deleted, "deleted")
    denied(who, lambda: who.client.videos.retrieve(made.id), openai.NotFoundError, 404, INVALID, "not_found")
    check([video.id for video in videos.list()] == ids[:-1] and before - who.wallet() == 80, "what is left")


def others(video):
    """A video is its account's, and is listed to the user who made it."""
    colleague = Attempts(os.environ["COLLEAGUE"]).client.videos
    check(colleague.retrieve(video).id == video and not colleague.list().data, "a colleague's")
    stranger = Attempts(os.environ["STRANGER"])
    videos, named = stranger.client.videos, {"video": {"id": video}, "prompt": "A dog."}
    check(not videos.list().data, "a stranger's list")
    for call in (
        lambda: videos.retrieve(video),
        lambda: videos.download_content(video),
        lambda: videos.delete(video),
        lambda: videos.remix(video, prompt="A dog."),
        # Its own methods take files only.
        lambda: stranger.client.post("/videos/edits", body=named, cast_to=object),
        lambda: stranger.client.post("/videos/extensions", body={**named, "seconds": "4"}, cast_to=object),
        lambda: videos.list(after=video),
    ):
        denied(stranger, call, openai.NotFoundError, 404, INVALID, "not_found")


def videos():
    side_by_side(film, spoilt)


def no_video():
    """What is refused at once; also before an upload has ended, which the SDK is still sending."""
    env = os.environ
    codex = Attempts(env["CODEX"])
    large = ("a cat.png", bytes(3 << 20), "image/png")
    for options in ({}, {"input_reference": large}):
        call = functools.partial(codex.film, **options)
        denied(codex, call, openai.PermissionDeniedError, 403, INVALID, "feature_not_in_plan")
    daily = Attempts(env["DAILY"])
    finished(daily)
    denied(daily, daily.film, openai.RateLimitError, 429, LIMIT, "rate_limit_exceeded")
    long = functools.partial(daily.film, seconds="8")
    denied(daily, long, openai.BadRequestError, 400, INVALID, "request_exceeds_allowance")
    broke = Attempts(env["BROKE"])
    denied(broke, broke.film, openai.RateLimitError, 429, QUOTA, "credit_balance_exhausted")
    capped = Attempts(env["CAPPED"])
    finished(capped)
    denied(capped, capped.film, openai.RateLimitError, 429, QUOTA, "project_spend_limit_exceeded")
    suspended = Attempts(env["SUSPENDED"])
    denied(suspended, suspended.film, openai.PermissionDeniedError, 403, INVALID, "account_suspended")
    other = functools.partial(broke.film, "sora-1")
    denied(broke, other, openai.NotFoundError, 404, INVALID, "model_not_found")
    wide = functools.partial(broke.film, size="1792x1024")
    denied(broke, wide, openai.BadRequestError, 400, INVALID, "invalid_value")


def finished(who):
    """One that is on record as completed, and so no longer in flight."""
    check(who.client.videos.poll(who.film().id).status == "completed", "a video")


def one_at_a_time():
    """What stands in the way is a video in the making: the SDK waits as it is told, and passes once that is gone."""
    first = Attempts(os.environ["SINGLE"])
    making = first.film("sora-2-sim-runs=600000").id
    who = Attempts(os.environ["SINGLE"], before_again=lambda: first.client.videos.delete(making))
    who.film()
    who.waited("a video in the making", 2, 5, 15)
    check(first.wallet() == 90, f"only one is to be paid: {first.wallet()}")


def no_videos():
    side_by_side(no_video, one_at_a_time)


PARTS = {part.__name__: part for part in (demo, refusals, away, videos, no_videos)}

if __name__ == "__main__":
    # The API is another vendor's by now.
    warnings.simplefilter("ignore", DeprecationWarning)
    try:
        PARTS[sys.argv[1]]()
    except Wrong as wrong:
        sys.exit(f"sdk.py: {wrong}")
