// The official SDK for Node before the gateway: answers, streams, and what each refusal becomes.
//
// Run by tests/it/sdks.rs: `sdk.mjs demo`, `sdk.mjs refusals` and `sdk.mjs away`. Keys and the base URL come in the
// environment. It says what ../sdk.py says, for the other SDK.

import OpenAI from "openai";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";

const { BASE, ...environment } = process.env;
const messages = [{ role: "user", content: "Say hello." }];

function check(condition, what) {
  if (!condition) throw new Error(what);
}

/** A client whose requests are written down, each with its time and its answer's headers. */
class Attempts {
  constructor(key, options = {}) {
    this.made = [];
    const counted = async (url, init) => {
      const attempt = { at: performance.now() };
      this.made.push(attempt);
      const response = await fetch(url, init);
      attempt.headers = response.headers;
      return response;
    };
    this.client = new OpenAI({ baseURL: BASE, apiKey: key, timeout: 30_000, fetch: counted, ...options });
  }

  ask(model = "one", options = {}) {
    return this.client.responses.create({ model, input: "Say hello.", ...options });
  }

  chat(model = "one", options = {}) {
    return this.client.chat.completions.create({ model, messages, ...options });
  }

  /** Checks that each attempt but the first came when the answer before it had said. */
  waited(what, attempts, least, most) {
    check(this.made.length === attempts, `${what}: ${attempts} attempts were expected, ${this.made.length} made`);
    for (let place = 1; place < attempts; place += 1) {
      const { at, headers } = this.made[place - 1];
      const told = Number(headers.get("retry-after-ms") ?? 1000 * Number(headers.get("retry-after")));
      const gap = this.made[place].at - at;
      check(least <= told && told <= most, `${what}: it was told to wait ${told} ms`);
      check(told - 50 <= gap && gap <= told + 10_000, `${what}: it waited ${gap} ms, and was told ${told}`);
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

/** One refusal: the class of its error, its words, and that nothing is tried again in vain. */
async function refused(who, kind, status, type, code, { model = "one", attempts = 1, ways = ["ask", "chat"] } = {}) {
  for (const way of ways) {
    for (const stream of [false, true]) {
      who.made.length = 0;
      let error;
      try {
        await who[way](model, { stream });
      } catch (thrown) {
        error = thrown;
      }
      const what = `${code} (${way}, stream ${stream})`;
      check(error?.constructor === kind, `${what}: ${kind.name} was expected, ${error} came`);
      check(error.status === status, `${what}: ${status} was expected, ${error.status} came`);
      check(error.type === type && error.code === code, `${what}: ${error.type}, ${error.code} came`);
      check(error.message && error.requestID, `${what}: a message and an id`);
      check(who.made.length === attempts, `${what}: ${attempts} attempts were expected, ${who.made.length} made`);
    }
  }
}

const [invalid, limit, quota] = ["invalid_request_error", "rate_limit_error", "insufficient_quota"];

/** Each refusal by itself; all of them side by side. */
const refusals = {
  // A short limit is waited out by the SDK itself: the second attempt passes.
  async short() {
    const who = new Attempts(environment.SHORT);
    await who.ask();
    who.made.length = 0;
    await who.ask();
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
  // What stands in the way is a request in flight: the SDK waits as it is told, and then passes.
  single: () => inFlight("in flight", environment.SINGLE, "one-sim-wait=4000"),
  // The one in flight holds the last credit, and fails: what it held comes back.
  held: () => inFlight("held in flight", environment.HELD, "one-sim-wait=4000+status=500"),
  again,
};

async function inFlight(what, key, model) {
  const running = new Attempts(key, { maxRetries: 0 }).ask(model).catch(() => {});
  await sleep(2000);
  const who = new Attempts(key);
  await who.ask();
  await running;
  who.waited(what, 2, 5000, 15_000);
}

/** The same call with the same key, while the first one runs: the SDK waits as it is told, and gets its answer. */
async function again() {
  const options = { headers: { "Idempotency-Key": `node-${performance.timeOrigin}` } };
  const ask = (who, model) => who.client.responses.create({ model, input: "Say hello." }, options);
  const first = ask(new Attempts(environment.FREE, { maxRetries: 0 }), "one-sim-wait=1000");
  await sleep(500);
  const who = new Attempts(environment.FREE);
  const answer = await ask(who, "one-sim-wait=1000");
  check(answer.id === (await first).id && answer.output_text, "the same answer");
  who.waited("asked again", 2, 1000, 1000);
  check(who.made.at(-1).headers.get("x-access-replayed") === "true", "the answer is given again");
  const other = new Attempts(environment.FREE);
  const error = await ask(other, "one").catch((thrown) => thrown);
  check(error instanceof OpenAI.UnprocessableEntityError, `another call with the same key: ${error} came`);
  check(error.code === "idempotency_key_reused" && other.made.length === 1, `nothing is tried again: ${error.code}`);
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

const parts = { demo, refusals: () => Promise.all(Object.values(refusals).map((one) => one())), away };
await parts[process.argv[2]]();
