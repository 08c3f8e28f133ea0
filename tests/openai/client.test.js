// What OpenAI's client for node expects of a server, one test a duty. README.md tells which variables it takes.
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import OpenAI, {
  APIError, APIConnectionError, AuthenticationError, BadRequestError, InternalServerError, NotFoundError, RateLimitError,
} from 'openai';

const { OPENAI_BASE_URL, OPENAI_API_KEY, OPENAI_MODEL_SINGLE, OPENAI_MODEL_FULL, OPENAI_MODEL_AWAY, OPENAI_MODEL_BREAKING } =
  process.env;
const messages = [{ role: 'user', content: 'hello' }];
const client = new OpenAI({ maxRetries: 0, timeout: 30_000 });
let model = process.env.OPENAI_MODEL;

/** A client that keeps what it sent and got: [{at, headers, status, reply}]. */
function watched(options = {}) {
  const tries = [];
  const watching = new OpenAI({
    timeout: 30_000,
    ...options,
    fetch: async (url, init) => {
      const seen = { at: performance.now(), headers: new Headers(init.headers) };
      tries.push(seen);
      const reply = await fetch(url, init);
      Object.assign(seen, { status: reply.status, reply: reply.headers, over: performance.now() });
      return reply;
    },
  });
  return { watching, tries };
}

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  return assert.fail('it was answered');
}

/** What users see of every error: the members of the error object, the request's id. */
function assertErrorObject(error, status) {
  assert.ok(error instanceof APIError, String(error));
  assert.equal(error.status, status);
  assert.ok(error.error, 'the body has an `error`');
  assert.equal(typeof error.error.message, 'string');
  assert.equal(typeof error.type, 'string');
  for (const member of ['param', 'code']) assert.ok(member in error.error, `the error has \`${member}\``);
  assert.ok(error.requestID, 'an error has a request id');
}

/** A retry cannot cure it, and the server says so. */
function assertNoRetry(tries) {
  assert.equal(tries.length, 1);
  assert.equal(tries[0].reply.get('x-should-retry'), 'false');
}

async function read(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}
const textOf = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('');

before(async () => {
  assert.ok(OPENAI_BASE_URL && OPENAI_API_KEY, 'OPENAI_BASE_URL and OPENAI_API_KEY are set');
  model ??= (await client.models.list()).data[0].id;
});

test('models: list has objects of the form that the client types', async () => {
  const all = [];
  for await (const each of client.models.list()) all.push(each);
  const found = all.find((each) => each.id === model);
  assert.ok(found);
  assert.equal(found.object, 'model');
  assert.equal(typeof found.created, 'number');
  assert.equal(typeof found.owned_by, 'string');
});

test('models: retrieve gives one of them', async () => {
  assert.equal((await client.models.retrieve(model)).id, model);
});

test('models: an unknown one is NotFoundError, model_not_found', async () => {
  const error = await failure(client.models.retrieve('there/is none'));
  assert.ok(error instanceof NotFoundError);
  assertErrorObject(error, 404);
  assert.equal(error.code, 'model_not_found');
});

test('chat: a whole answer with usage', async () => {
  const answer = await client.chat.completions.create({ model, messages, max_tokens: 4 });
  assert.equal(answer.object, 'chat.completion');
  assert.equal(answer.choices[0].message.role, 'assistant');
  assert.ok(answer.choices[0].message.content.length > 0);
  assert.ok(['length', 'stop'].includes(answer.choices[0].finish_reason));
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
});

test('chat: max_completion_tokens is understood', async () => {
  const answer = await client.chat.completions.create({ model, messages, max_completion_tokens: 3 });
  assert.ok(answer.usage.completion_tokens <= 3);
});

test('chat: unknown fields pass', async () => {
  const answer = await client.chat.completions.create({
    model, messages, max_tokens: 2, temperature: 0.5, a_field_of_next_year: { deep: [1, 2, { x: null }] }, service_tier: 'auto',
  });
  assert.ok(answer.choices[0].message.content.length > 0);
});

test('stream: chunks until [DONE], then the iteration ends', async () => {
  const chunks = await read(await client.chat.completions.create({ model, messages, max_tokens: 8, stream: true }));
  assert.equal(chunks[0].object, 'chat.completion.chunk');
  assert.ok(textOf(chunks).length > 0);
  assert.ok(['length', 'stop'].includes(chunks.at(-1).choices[0].finish_reason));
});

test('stream: it comes while it is made, not at its end', async () => {
  const times = [];
  for await (const chunk of await client.chat.completions.create({ model, messages, max_tokens: 20, stream: true })) {
    if (chunk.choices[0]?.delta.content) times.push(performance.now());
  }
  assert.ok(times.length > 5);
  assert.ok(times[1] - times[0] < (times.at(-1) - times[0]) / 2);
});

test('stream: no usage unless it is asked for', async () => {
  for (const chunk of await read(await client.chat.completions.create({ model, messages, max_tokens: 4, stream: true }))) {
    assert.equal(chunk.choices.length, 1, 'strict parsers take no chunk without choices');
    assert.ok(chunk.usage == null);
  }
});

test('stream: usage that is asked for comes once, last, with no choices', async () => {
  const chunks = await read(await client.chat.completions.create({
    model, messages, max_tokens: 4, stream: true, stream_options: { include_usage: true },
  }));
  const told = chunks.filter((chunk) => chunk.usage != null);
  assert.equal(told.length, 1);
  assert.equal(told[0], chunks.at(-1));
  assert.deepEqual(told[0].choices, []);
  assert.ok(told[0].usage.completion_tokens > 0);
});

test('stream: the helper that puts chunks together', async () => {
  const runner = client.chat.completions.stream({ model, messages, max_tokens: 4, stream_options: { include_usage: true } });
  const whole = await runner.finalChatCompletion();
  assert.ok(whole.choices[0].message.content.length > 0);
  assert.ok(whole.usage.total_tokens > 0);
});

test('stream: leaving early ends the computation', { skip: !OPENAI_MODEL_SINGLE && 'no OPENAI_MODEL_SINGLE' }, async () => {
  const long = await client.chat.completions.create({ model: OPENAI_MODEL_SINGLE, messages, max_tokens: 100_000, stream: true });
  for await (const chunk of long) {
    if (chunk.choices[0]?.delta.content) break;
  }
  // Its one place is free again, or this waits for hours.
  const next = await client.chat.completions.create({ model: OPENAI_MODEL_SINGLE, messages, max_tokens: 1 }, { timeout: 5_000 });
  assert.ok(next.choices[0].message.content.length > 0);
});

test('stream: an abort signal ends the computation', { skip: !OPENAI_MODEL_SINGLE && 'no OPENAI_MODEL_SINGLE' }, async () => {
  const abort = new AbortController();
  const asked = client.chat.completions.create({ model: OPENAI_MODEL_SINGLE, messages, max_tokens: 100_000 }, { signal: abort.signal });
  setTimeout(() => abort.abort(), 300);
  assert.ok((await failure(asked)) instanceof APIError);
  const next = await client.chat.completions.create({ model: OPENAI_MODEL_SINGLE, messages, max_tokens: 1 }, { timeout: 5_000 });
  assert.ok(next.choices[0].message.content.length > 0);
});

test('stream: a failure in the middle throws, with what came before',
  { skip: !OPENAI_MODEL_BREAKING && 'no OPENAI_MODEL_BREAKING' }, async () => {
    const stream = await client.chat.completions.create({ model: OPENAI_MODEL_BREAKING, messages, max_tokens: 10, stream: true });
    const chunks = [];
    const error = await failure((async () => {
      for await (const chunk of stream) chunks.push(chunk);
    })());
    assert.ok(error instanceof APIError && !(error instanceof APIConnectionError), String(error));
    assert.equal(typeof error.error.message, 'string');
    assert.ok(error.requestID);
    assert.ok(textOf(chunks).length > 0);
  });

test('timeout: a stream that waits long has its head early, and comments that are no chunks',
  { skip: !OPENAI_MODEL_SINGLE && 'no OPENAI_MODEL_SINGLE' }, async () => {
    const abort = new AbortController();
    const holds = await client.chat.completions.create(
      { model: OPENAI_MODEL_SINGLE, messages, max_tokens: 100_000, stream: true }, { signal: abort.signal });
    let isHeld = true;
    const holding = read(holds).catch(() => {}).finally(() => { isHeld = false; });
    const waits = await client.chat.completions.create({ model: OPENAI_MODEL_SINGLE, messages, max_tokens: 3, stream: true });
    assert.ok(isHeld, 'its head is there and its place is not');
    abort.abort();
    const chunks = await read(waits);
    await holding;
    assert.ok(textOf(chunks).length > 0);
    assert.ok(chunks.every((chunk) => chunk.object === 'chat.completion.chunk'));
  });

test('completions: the old form, whole', async () => {
  const answer = await client.completions.create({ model, prompt: 'hello', max_tokens: 3 });
  assert.equal(answer.object, 'text_completion');
  assert.ok(answer.choices[0].text.length > 0);
  assert.ok(answer.usage.completion_tokens > 0);
});

test('completions: the old form, as a stream', async () => {
  const chunks = await read(await client.completions.create({ model, prompt: 'hello', max_tokens: 3, stream: true }));
  assert.ok(chunks.map((chunk) => chunk.choices[0].text).join('').length > 0);
  assert.ok(chunks.every((chunk) => chunk.usage == null));
});

test('request id: of answers, streams and errors, each its own', async () => {
  const whole = await client.chat.completions.create({ model, messages, max_tokens: 1 });
  const { data, request_id: ofStream } =
    await client.chat.completions.create({ model, messages, max_tokens: 1, stream: true }).withResponse();
  await read(data);
  const error = await failure(client.models.retrieve('none'));
  const ids = [whole._request_id, ofStream, error.requestID];
  assert.ok(ids.every(Boolean), ids.join());
  assert.equal(new Set(ids).size, 3);
});

test('request id: a client\'s own is not taken for the server\'s', async () => {
  const { data, request_id: id } = await client.chat.completions.create(
    { model, messages, max_tokens: 1 }, { headers: { 'x-request-id': 'mine' } }).withResponse();
  assert.ok(data.choices.length > 0);
  assert.notEqual(id, 'mine');
});

test('400: BadRequestError with the parameter, not tried again', async () => {
  const { watching, tries } = watched();
  const error = await failure(watching.chat.completions.create({ messages }));
  assert.ok(error instanceof BadRequestError);
  assertErrorObject(error, 400);
  assert.equal(error.type, 'invalid_request_error');
  assert.equal(error.param, 'model');
  assertNoRetry(tries);
});

test('401: AuthenticationError, invalid_api_key, not tried again', async () => {
  const { watching, tries } = watched({ apiKey: 'sk-wrong' });
  const error = await failure(watching.chat.completions.create({ model, messages }));
  assert.ok(error instanceof AuthenticationError);
  assertErrorObject(error, 401);
  assert.equal(error.code, 'invalid_api_key');
  assertNoRetry(tries);
});

test('404: NotFoundError for a model that is none, not tried again', async () => {
  const { watching, tries } = watched();
  const error = await failure(watching.chat.completions.create({ model: 'none', messages }));
  assert.ok(error instanceof NotFoundError);
  assertErrorObject(error, 404);
  assert.equal(error.code, 'model_not_found');
  assertNoRetry(tries);
});

test('404: a route that is not offered has an error object', async () => {
  const error = await failure(client.post('/there/is/none', { body: {} }));
  assert.ok(error instanceof NotFoundError);
  assertErrorObject(error, 404);
});

test('405: the wrong method has an error object', async () => {
  const error = await failure(client.get('/chat/completions'));
  assertErrorObject(error, 405);
});

test('413: a body that is too large has an error object, not tried again', async () => {
  const { watching, tries } = watched();
  const content = 'x'.repeat(20 << 20);
  const error = await failure(watching.chat.completions.create({ model, messages: [{ role: 'user', content }] }));
  assertErrorObject(error, 413);
  assertNoRetry(tries);
});

test('429: RateLimitError that says when to come again', { skip: !OPENAI_MODEL_FULL && 'no OPENAI_MODEL_FULL' }, async () => {
  const error = await failure(client.chat.completions.create({ model: OPENAI_MODEL_FULL, messages }));
  assert.ok(error instanceof RateLimitError);
  assertErrorObject(error, 429);
  const wait = Number(error.headers.get('retry-after-ms'));
  assert.ok(wait > 0 && wait <= 60_000, 'the client takes no advice above a minute');
  assert.ok(Math.abs(Number(error.headers.get('retry-after')) * 1000 - wait) <= 1000);
  assert.notEqual(error.headers.get('x-should-retry'), 'false');
});

test('503: InternalServerError after the time that the request says it waits',
  { skip: !OPENAI_MODEL_AWAY && 'no OPENAI_MODEL_AWAY' }, async () => {
    const begin = performance.now();
    const error = await failure(client.chat.completions.create(
      { model: OPENAI_MODEL_AWAY, messages }, { headers: { 'X-Stainless-Timeout': '1' } }));
    assert.ok(error instanceof InternalServerError);
    assertErrorObject(error, 503);
    assert.ok(Number(error.headers.get('retry-after-ms')) > 0);
    assert.ok(performance.now() - begin < 5_000);
  });

test('retries: what a retry may cure is tried again, and not before retry-after-ms',
  { skip: !OPENAI_MODEL_AWAY && 'no OPENAI_MODEL_AWAY' }, async () => {
    const { watching, tries } = watched({ maxRetries: 1 });
    const error = await failure(watching.chat.completions.create(
      { model: OPENAI_MODEL_AWAY, messages }, { headers: { 'X-Stainless-Timeout': '1' } }));
    assertErrorObject(error, 503);
    assert.deepEqual(tries.map((each) => each.headers.get('x-stainless-retry-count')), ['0', '1']);
    const asked = Number(tries[0].reply.get('retry-after-ms'));
    const waited = tries[1].at - tries[0].over;
    assert.ok(waited >= asked - 5 && waited < asked + 1000, `it was told ${asked} ms and waited ${waited} ms`);
  });

test('502: a replica that breaks off before its answer is InternalServerError with advice',
  { skip: !OPENAI_MODEL_BREAKING && 'no OPENAI_MODEL_BREAKING' }, async () => {
    const error = await failure(client.chat.completions.create({ model: OPENAI_MODEL_BREAKING, messages, max_tokens: 10 }));
    assert.ok(error instanceof InternalServerError);
    assertErrorObject(error, error.status);
    assert.ok([502, 503].includes(error.status));
    assert.ok(Number(error.headers.get('retry-after-ms')) > 0);
  });

test('many at once over kept connections', async () => {
  const answers = await Promise.all(Array.from({ length: 20 }, () => client.chat.completions.create({ model, messages, max_tokens: 2 })));
  assert.ok(answers.every((answer) => answer.choices[0].message.content.length > 0));
});
