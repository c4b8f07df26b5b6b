// A chat route as teams build it: the AI SDK's streamText piped to the response as a UI message stream.
//   node ai_server.mjs NODE_FOLDER LOG
// The model is the SDK's own mock; what it says and how the route fails is asked for by ?mode= (see MODES). The log has one
// JSON line a request, written at its end: {id, mode, received, parts, writes, closed}. Times are process.hrtime.bigint(),
// on Linux CLOCK_MONOTONIC in ns: the clock of whoever measures on this machine. `parts` are the model's [kind, time];
// `writes` are the response's [just before the write, just after it, its bytes as text]. The first line of output is the port.
import { appendFileSync } from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

const [folder, log] = process.argv.slice(2);
const find = createRequire(path.join(path.resolve(folder), 'package.json'));
const load = (name) => import(pathToFileURL(find.resolve(name)).href);
const { streamText, tool, stepCountIs, convertToModelMessages } = await load('ai');
const { MockLanguageModelV3 } = await load('ai/test');
const { z } = await load('zod');

const FIRST_MS = 60;
const GAP_MS = 15;
const now = () => Number(process.hrtime.bigint());
const usage = {
  inputTokens: { total: 9, noCache: 9, cacheRead: 0, cacheWrite: 0 },
  outputTokens: { total: 12, text: 8, reasoning: 4 },
};
const finish = (unified) => ({ type: 'finish', finishReason: { unified, raw: unified }, usage });
const words = (kind, id, n) => [
  { type: `${kind}-start`, id },
  ...Array.from({ length: n }, (_, i) => ({ type: `${kind}-delta`, id, delta: `word${i} ` })),
  { type: `${kind}-end`, id },
];
const call = [
  { type: 'tool-input-start', id: 'call_1', toolName: 'weather' },
  { type: 'tool-input-delta', id: 'call_1', delta: '{"city":' },
  { type: 'tool-input-delta', id: 'call_1', delta: '"Oslo"}' },
  { type: 'tool-input-end', id: 'call_1' },
  { type: 'tool-call', toolCallId: 'call_1', toolName: 'weather', input: '{"city":"Oslo"}' },
];

// What the model says, step by step of the conversation.
const MODES = {
  text: [[...words('text', 't', 8), finish('stop')]],
  keepalive: [[...words('text', 't', 8), finish('stop')]],
  capped: [[...words('text', 't', 8), finish('length')]],
  reasoning: [[...words('reasoning', 'r', 4), ...words('text', 't', 8), finish('stop')]],
  tool: [[...call, finish('tool-calls')], [...words('text', 't', 8), finish('stop')]],
  error: [[...words('text', 't', 3).slice(0, -1), { type: 'error', error: new Error('boom') }, finish('error')]],
  provider: [[]],
  abort: [words('text', 't', 8).slice(0, -1)],
  cut: [words('text', 't', 3)],
  drop: [words('text', 't', 8)],
};

function model(mode, parts, abort, response) {
  let step = 0;
  return new MockLanguageModelV3({
    doStream: async () => {
      if (mode === 'provider') throw new Error('the provider is down');
      const said = MODES[mode][step++];
      async function* speak() {
        yield { type: 'stream-start', warnings: [] };
        let spoken = 0;
        for (const part of said) {
          const output = /-delta$/.test(part.type);
          if (output) await sleep(spoken ? GAP_MS : FIRST_MS * (mode === 'keepalive' ? 3 : 1));
          if (mode === 'abort' && spoken === 4) return abort.abort('user stop');
          if (mode === 'drop' && spoken === 4) return response.destroy();
          if (output) parts.push([part.type, now()]);
          spoken += output;
          yield part;
        }
      }
      return { stream: ReadableStream.from(speak()) };
    },
  });
}

async function answer(request, response) {
  const received = now();
  const mode = new URL(request.url, 'http://local').searchParams.get('mode') ?? 'text';
  const { messages } = JSON.parse(await text(request));
  const [parts, writes, abort] = [[], [], new AbortController()];
  const write = response.write.bind(response);
  response.write = (data, ...more) => {
    const before = now();
    const went = write(data, ...more);
    writes.push([before, now(), Buffer.from(data).toString()]);
    return went;
  };
  response.on('close', () => {
    const id = (request.headers.traceparent ?? '').split('-')[1];
    appendFileSync(log, JSON.stringify({ id, mode, received, parts, writes, closed: now() }) + '\n');
  });
  streamText({
    model: model(mode, parts, abort, response),
    messages: await convertToModelMessages(messages),
    abortSignal: abort.signal,
    maxRetries: 0,
    stopWhen: stepCountIs(3),
    tools: { weather: tool({ inputSchema: z.object({ city: z.string() }), execute: async () => ({ t: 4 }) }) },
    onError: () => {},
  }).pipeUIMessageStreamToResponse(response, {
    ...(mode === 'keepalive' ? { keepAliveMs: 50 } : {}),
    messageMetadata: ({ part }) => (part.type === 'finish' ? { totalUsage: part.totalUsage } : undefined),
  });
}

const server = http.createServer((request, response) => {
  answer(request, response).catch((error) => response.destroy(error));
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
