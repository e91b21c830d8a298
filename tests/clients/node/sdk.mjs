// The official SDK for Node before the gateway: answers, streams, videos, and what each refusal becomes.
//
// Run by tests/it/sdks.rs with the name of a part: the last lines list them. Keys and the base URL come in the
// environment. It says what ../python/sdk.py says, for the other SDK.

import OpenAI, { toFile, toStreamingFile } from "openai";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";

const { BASE, ...environment } = process.env;
const messages = [{ role: "user", content: "Say hello." }];

function check(condition, what) {
  if (!condition) throw new Error(what);
}

/** Waits for a condition, however slow the machine is. */
async function until(what, condition) {
  const deadline = performance.now() + 60_000;
  while (!(await condition())) {
    check(performance.now() < deadline, `not in a minute: ${what}`);
    await sleep(50);
  }
}

/** A client whose requests are written down, each with its time and its answer's headers. */
class Attempts {
  /** `beforeAgain` clears away what stood in the way of the attempt before. */
  constructor(key, { beforeAgain, ...options } = {}) {
    this.made = [];
    const counted = async (url, init) => {
      // Before its first form the SDK tries out what this function understands.
      if (!String(url).startsWith(BASE)) return fetch(url, init);
      const attempt = { at: performance.now() };
      this.made.push(attempt);
      if (this.made.length > 1) await beforeAgain?.();
      try {
        const response = await fetch(url, init);
        attempt.headers = response.headers;
        return response;
      } catch (error) {
        attempt.error = error.cause ?? error;
        throw error;
      }
    };
    this.client = new OpenAI({ baseURL: BASE, apiKey: key, timeout: 120_000, fetch: counted, ...options });
  }

  ask(model = "one", options = {}) {
    return this.client.responses.create({ model, input: "Say hello.", ...options });
  }

  chat(model = "one", options = {}) {
    return this.client.chat.completions.create({ model, messages, ...options });
  }

  film(model = "sora-2", options = {}) {
    return this.client.videos.create({ model, prompt: "A cat.", ...options });
  }

  /** What is left of the plan's only feature. */
  async feature() {
    return (await this.client.get("/access")).features[0];
  }

  /** The credits that the user has. */
  async wallet() {
    const { layers } = await this.feature();
    return Number(layers.find((layer) => layer.balance).balance.available);
  }

  /** Checks that each attempt but the first came when the answer before it had said. */
  waited(what, attempts, least, most) {
    check(this.made.length === attempts, `${what}: ${attempts} attempts were expected, ${this.made.length} made`);
    for (let place = 1; place < attempts; place += 1) {
      const { at, headers } = this.made[place - 1];
      const told = Number(headers.get("retry-after-ms") ?? 1000 * Number(headers.get("retry-after")));
      const gap = this.made[place].at - at;
      check(least <= told && told <= most, `${what}: it was told to wait ${told} ms`);
      check(told - 50 <= gap && gap <= told + 60_000, `${what}: it waited ${gap} ms, and was told ${told}`);
    }
  }
}

async function all(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return pieces;
}

async function responses(who) {
  const answer = await who.ask("gpt-5.5");
  check(answer.status === "completed" && answer.output_text, `an answer: ${JSON.stringify(answer)}`);
  check(answer.usage.output_tokens > 0, "its usage");
  check((await who.client.responses.retrieve(answer.id)).id === answer.id, "an answer is there afterwards");
  const follow = await who.ask("gpt-5.5", { previous_response_id: answer.id });
  check(follow.usage.input_tokens > answer.usage.input_tokens, "a conversation goes on");
  await who.client.responses.delete(answer.id);

  const events = (await all(await who.ask("gpt-5.5", { stream: true }))).map((event) => event.type);
  check(events[0] === "response.created" && events.at(-1) === "response.completed", `a stream: ${events}`);
  const helped = await who.client.responses.stream({ model: "gpt-5.5", input: "Say hello." }).finalResponse();
  check(helped.usage.output_tokens > 0, "the stream helper");

  const { response, request_id } = await who.ask("gpt-5.5").withResponse();
  check(response.headers.get("x-access-decision").startsWith("allow;") && request_id, "the decision, and an id");
}

/** A stream that is cut ends in an event that says so, or in an error: never as if it were whole. */
async function cut(who) {
  try {
    const events = await all(await who.ask("gpt-5.5-sim-cut=6", { stream: true }));
    check(events.at(-1).type === "response.failed", `a cut stream: ${events.map((event) => event.type)}`);
  } catch (error) {
    check(error instanceof OpenAI.APIError && error.code === "server_error", `a cut stream: ${error}`);
  }
}

async function chat(who) {
  const answer = await who.chat("gpt-5.5");
  check(answer.choices[0].message.content && answer.usage.completion_tokens > 0, `a chat: ${JSON.stringify(answer)}`);
  const chunks = await all(await who.chat("gpt-5.5", { stream: true }));
  check(chunks.length > 1 && chunks.every((chunk) => chunk.choices.length > 0 && !chunk.usage), "what was asked for");
  const asked = await all(await who.chat("gpt-5.5", { stream: true, stream_options: { include_usage: true } }));
  check(asked.at(-1).usage.completion_tokens > 0 && asked.at(-1).choices.length === 0, "usage where it was asked for");
}

async function models(who) {
  check((await who.client.models.list()).data.some((model) => model.id === "gpt-5.5"), "models");
}

async function demo() {
  for (const key of [environment.ALLOWANCE, environment.CREDITS]) {
    const who = new Attempts(key);
    for (const api of [responses, cut, chat, models]) await api(who);
  }
  const quota = ["insufficient_quota", "credit_balance_exhausted"];
  await refused(new Attempts(environment.NOTHING), OpenAI.RateLimitError, 429, ...quota, { model: "gpt-5.5" });
}

/** One refusal of a generation, by each API and as a stream or not. */
async function refused(who, kind, status, type, code, { model = "one" } = {}) {
  for (const way of ["ask", "chat"]) {
    for (const stream of [false, true]) {
      const which = `${way}, stream ${stream}`;
      await denied(who, () => who[way](model, { stream }), kind, status, type, code, which);
    }
  }
}

/** One refusal: the class of its error, its words, and that nothing is tried again in vain. */
async function denied(who, call, kind, status, type, code, which = "video") {
  who.made.length = 0;
  let error;
  try {
    await call();
  } catch (thrown) {
    error = thrown;
  }
  const what = `${code} (${which})`;
  check(error?.constructor === kind, `${what}: ${kind.name} was expected, ${error} came`);
  check(error.status === status, `${what}: ${status} was expected, ${error.status} came`);
  check(error.type === type && error.code === code, `${what}: ${error.type}, ${error.code} came`);
  check(error.message && error.requestID, `${what}: a message and an id`);
  check(who.made.length === 1, `${what}: ${who.made.length} attempts made; ${who.made.map((one) => one.error)}`);
}

const [invalid, limit, quota] = ["invalid_request_error", "rate_limit_error", "insufficient_quota"];

/** Each refusal by itself; all of them side by side. */
const refusals = {
  // A short limit is waited out by the SDK itself: the second attempt passes.
  async short() {
    const who = new Attempts(environment.SHORT);
    // Each that passes opens a window, which has gone by only where the next comes late.
    await until("a short limit", async () => {
      who.made.length = 0;
      await who.ask();
      return who.made.length > 1;
    });
    who.waited("a short limit", 2, 1, 4000);
  },
  async long() {
    const who = new Attempts(environment.LONG);
    await who.ask();
    await refused(who, OpenAI.RateLimitError, 429, limit, "rate_limit_exceeded");
    await refused(who, OpenAI.BadRequestError, 400, invalid, "request_exceeds_allowance", { model: "five" });
  },
  prepaid: () =>
    refused(new Attempts(environment.PREPAID), OpenAI.RateLimitError, 429, quota, "credit_balance_exhausted"),
  async capped() {
    const who = new Attempts(environment.CAPPED);
    await who.ask();
    await refused(who, OpenAI.RateLimitError, 429, quota, "project_spend_limit_exceeded");
  },
  video: () =>
    refused(new Attempts(environment.VIDEO), OpenAI.PermissionDeniedError, 403, invalid, "feature_not_in_plan"),
  suspended: () =>
    refused(new Attempts(environment.SUSPENDED), OpenAI.PermissionDeniedError, 403, invalid, "account_suspended"),
  unpriced: () =>
    refused(new Attempts(environment.FREE), OpenAI.NotFoundError, 404, invalid, "model_not_found", {
      model: "no-such-model",
    }),
  wrong: () => refused(new Attempts("ofk_wrong"), OpenAI.AuthenticationError, 401, invalid, "invalid_api_key"),
  single() {
    const isFree = async (who) => (await who.feature()).guards[0].left === "1";
    return inFlight("in flight", environment.SINGLE, "one", isFree);
  },
  // The one in flight holds most of the last credit: what it does not use comes back.
  held: () =>
    inFlight("held in flight", environment.HELD, "gpt-5.5", async (who) => (await who.wallet()) > 0.8, {
      max_output_tokens: 1000,
    }),
  again,
};

/** What stands in the way is a stream in flight: the SDK waits as it is told, and passes once that has ended. */
async function inFlight(what, key, model, isFree, options = {}) {
  const once = new Attempts(key, { maxRetries: 0 });
  const running = await once.ask(`${model}-sim-pace=100+events=6000`, { stream: true, ...options });
  const looks = new Attempts(key);
  const beforeAgain = async () => {
    running.controller.abort();
    await until(what, () => isFree(looks));
  };
  const who = new Attempts(key, { beforeAgain });
  await who.ask(model, options);
  who.waited(what, 2, 5000, 15_000);
}

/** The same call with the same key, while the first one runs: the SDK waits as it is told, and gets its answer. */
async function again() {
  const options = { headers: { "Idempotency-Key": `node-${performance.timeOrigin}` } };
  const body = { model: "one-sim-pace=1000+events=12", input: "Say hello.", stream: true };
  const ask = (who) => who.client.responses.create(body, options);
  const once = () => ask(new Attempts(environment.FREE, { maxRetries: 0 }));
  const first = await once();
  const isKept = async () => {
    try {
      (await once()).controller.abort();
    } catch (error) {
      if (error instanceof OpenAI.ConflictError) return false;
      throw error;
    }
    return true;
  };
  let answer;
  const beforeAgain = async () => {
    answer = await all(first);
    await until("the answer is kept", isKept);
  };
  const who = new Attempts(environment.FREE, { beforeAgain });
  const given = await all(await ask(who));
  check(JSON.stringify(given) === JSON.stringify(answer), `the same answer: ${JSON.stringify(given)}`);
  who.waited("asked again", 2, 1000, 1000);
  check(who.made.at(-1).headers.get("x-access-replayed") === "true", "the answer is given again");
  const other = new Attempts(environment.FREE);
  const reused = () => other.client.responses.create({ model: "one", input: "Say hello." }, options);
  await denied(other, reused, OpenAI.UnprocessableEntityError, 422, invalid, "idempotency_key_reused", "another call");
}

/** The gateway's store is away: three attempts, each when the answer before it said. */
async function away() {
  const who = new Attempts(environment.FREE);
  const words = ["service_unavailable_error", "server_is_overloaded"];
  let error;
  try {
    await who.ask();
  } catch (thrown) {
    error = thrown;
  }
  check(error?.constructor === OpenAI.InternalServerError && error.status === 503, `away: ${error} came`);
  check(error.type === words[0] && error.code === words[1], `away: ${error.type}, ${error.code} came`);
  who.waited("away", 3, 1000, 5000);
}

/** A video that has ended, asked for as often as the upstream wishes, as the API's guide has it. */
async function ended(who, id) {
  for (;;) {
    const { data, response } = await who.client.videos.retrieve(id).withResponse();
    check(!response.headers.has("x-access-decision"), "a poll is no decision");
    if (data.status !== "queued" && data.status !== "in_progress") return data;
    check(response.headers.get("openai-poll-after-ms") === "400", "when to poll again");
    await sleep(400);
  }
}

/** Nobody pays for a video that fails. */
async function spoilt() {
  const who = new Attempts(environment.SPOILT);
  const failures = { failed: "video_generation_failed", moderated: "moderation_blocked" };
  for (const [word, code] of Object.entries(failures)) {
    const { data, response } = await who.film(`sora-2-sim-runs=1500+poll-after=400+${word}`).withResponse();
    const { id } = data;
    check(response.headers.get("x-access-sources").includes('take="10"'), "it is held");
    const { status, error } = await ended(who, id);
    check(status === "failed" && error.code === code, `a video that fails: ${status}, ${error?.code}`);
    check((await who.wallet()) === 1000, "it costs nothing");
    const download = () => who.client.videos.downloadContent(id);
    await denied(who, download, OpenAI.NotFoundError, 404, invalid, null);
  }
}

async function film() {
  const who = new Attempts(environment.FILM);
  const { videos } = who.client;
  const asked = { seconds: "8", size: "1280x720" };
  const { data, response } = await who.film("sora-2-sim-runs=1500+poll-after=400", asked).withResponse();
  check(data.status === "queued" && response.headers.get("x-access-decision").startsWith("allow;"), "the decision");
  const made = await ended(who, data.id);
  check(made.status === "completed" && made.seconds === "8" && made.size === "1280x720", JSON.stringify(made));
  check((await who.wallet()) === 980, "8 seconds");

  for (const [variant, type, size] of [["video", "video/mp4", 4096], ["thumbnail", "image/webp", 1000]]) {
    const content = await videos.downloadContent(made.id, variant === "video" ? {} : { variant });
    const bytes = (await content.arrayBuffer()).byteLength;
    check(content.headers.get("content-type") === type && bytes === size, `its ${variant}: ${bytes}`);
  }

  const again = await videos.remix(made.id, { prompt: "A dog." });
  check(again.remixed_from_video_id === made.id && again.seconds === "8", JSON.stringify(again));
  check((await ended(who, again.id)).status === "completed" && (await who.wallet()) === 960, "a remix");

  // References within the limit of a body, and one that is larger; and one of a length that nobody knows beforehand.
  const ids = [again.id, made.id];
  const name = "a cat.png";
  for (const file of [
    await toFile(Buffer.alloc(1000), name, { type: "image/png" }),
    await toFile(Buffer.alloc(3 << 20), name, { type: "image/png" }),
    toStreamingFile(new Blob([Buffer.alloc(1000)]).stream(), name, { type: "image/png" }),
  ]) {
    const { id, seconds } = await who.film("sora-2", { seconds: "12", input_reference: file });
    check(seconds === "12" && (await ended(who, id)).status === "completed", "with a file");
    ids.unshift(id);
  }
  check((await who.wallet()) === 870, "three of 12 seconds");

  const page = await videos.list({ limit: 3 });
  check(page.data.length === 3 && (await page.getNextPage()).data.length === 2, "pages");
  const listed = async (query) => (await all(videos.list(query))).map((video) => video.id).join();
  check((await listed({ limit: 1 })) === ids.join(), "the newest first, page by page");
  check((await listed({ order: "asc" })) === ids.toReversed().join(), "the oldest first");
  await others(made.id);

  check((await videos.delete(made.id)).deleted, "deleted");
  await denied(who, () => videos.retrieve(made.id), OpenAI.NotFoundError, 404, invalid, "not_found");
  check((await listed({})) === ids.slice(0, -1).join() && (await who.wallet()) === 870, "what is left");
}

/** A video is its account's, and is listed to the user who made it. */
async function others(video) {
  const colleague = new Attempts(environment.COLLEAGUE).client.videos;
  check((await colleague.retrieve(video)).id === video, "a colleague may look");
  check((await colleague.list()).data.length === 0, "a colleague's list");
  const stranger = new Attempts(environment.STRANGER);
  const { videos } = stranger.client;
  check((await videos.list()).data.length === 0, "a stranger's list");
  const prompt = "A dog.";
  for (const call of [
    () => videos.retrieve(video),
    () => videos.downloadContent(video),
    () => videos.delete(video),
    () => videos.remix(video, { prompt }),
    () => videos.edit({ video: { id: video }, prompt }),
    () => videos.extend({ video: { id: video }, prompt, seconds: "4" }),
    () => videos.list({ after: video }),
  ]) {
    await denied(stranger, call, OpenAI.NotFoundError, 404, invalid, "not_found");
  }
}

/** What is refused at once; also before an upload has ended, which the SDK is still sending. */
async function noVideo() {
  const { BadRequestError, NotFoundError, PermissionDeniedError, RateLimitError } = OpenAI;
  const who = (name) => new Attempts(environment[name]);
  const [codex, daily, broke, capped, suspended] = ["CODEX", "DAILY", "BROKE", "CAPPED", "SUSPENDED"].map(who);
  const missing = [PermissionDeniedError, 403, invalid, "feature_not_in_plan"];
  await denied(codex, () => codex.film(), ...missing);
  const large = await toFile(Buffer.alloc(3 << 20), "a cat.png", { type: "image/png" });
  await denied(codex, () => codex.film("sora-2", { input_reference: large }), ...missing);
  // Wherever its caller names a file, the SDK sends it behind the fields that price it.
  const first = { input_reference: large, model: "sora-2", prompt: "A cat.", seconds: "4" };
  await denied(codex, () => codex.client.videos.create(first), ...missing);
  await finished(daily);
  await denied(daily, () => daily.film(), RateLimitError, 429, limit, "rate_limit_exceeded");
  const long = () => daily.film("sora-2", { seconds: "8" });
  await denied(daily, long, BadRequestError, 400, invalid, "request_exceeds_allowance");
  await denied(broke, () => broke.film(), RateLimitError, 429, quota, "credit_balance_exhausted");
  await finished(capped);
  await denied(capped, () => capped.film(), RateLimitError, 429, quota, "project_spend_limit_exceeded");
  await denied(suspended, () => suspended.film(), PermissionDeniedError, 403, invalid, "account_suspended");
  await denied(broke, () => broke.film("sora-1"), NotFoundError, 404, invalid, "model_not_found");
  const wide = () => broke.film("sora-2", { size: "1792x1024" });
  await denied(broke, wide, BadRequestError, 400, invalid, "invalid_value");
}

/** One that is on record as completed, and so no longer in flight. */
async function finished(who) {
  const { id } = await who.film();
  check((await who.client.videos.retrieve(id)).status === "completed", "a video");
}

/** What stands in the way is a video in the making: the SDK waits as it is told, and passes once that is gone. */
async function oneAtATime() {
  const first = new Attempts(environment.SINGLE);
  const making = await first.film("sora-2-sim-runs=600000");
  const who = new Attempts(environment.SINGLE, { beforeAgain: () => first.client.videos.delete(making.id) });
  await who.film();
  who.waited("a video in the making", 2, 5000, 15_000);
  check((await first.wallet()) === 90, "only one is to be paid");
}

const parts = {
  demo,
  refusals: () => Promise.all(Object.values(refusals).map((one) => one())),
  away,
  videos: () => Promise.all([film(), spoilt()]),
  no_videos: () => Promise.all([noVideo(), oneAtATime()]),
};
await parts[process.argv[2]]();
